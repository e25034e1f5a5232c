// `npm run reasons [-- --runs 3 --only <part of a name> --client rtc-node --write-docs]`: what LiveKit tells, and when, for each way of
// leaving or of coming back, of two client SDKs. The waits of src/config/config.ts are chosen from what it shows.
import { parseArgs } from 'node:util';
import { noChromium } from '../browser/stack/chromium-binary.ts';
import { Pages } from '../browser/stack/pages.ts';
import { LiveKit } from '../stack/livekit.ts';
import { Network, noNamespaces } from '../stack/network.ts';
import { WebhookTap } from '../stack/webhooks.ts';
import { writeBetween } from '../stack/written.ts';
import { CASES, type Case } from './cases.ts';
import type { GuestKind } from './guests.ts';
import { type Ground, type Played, play } from './record.ts';
import { tableOf } from './table.ts';
import { tradeOf } from './trade.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    only: { type: 'string', default: '' },
    client: { type: 'string' },
    'write-docs': { type: 'boolean', default: false },
  },
});
const impossible = noNamespaces() ?? noChromium;
if (impossible !== undefined) {
  console.error(`npm run reasons: ${impossible}`);
  process.exit(2);
}

/** Cases mostly wait; but browsers need a core while they start. */
const AT_ONCE: Readonly<Record<GuestKind, number>> = { 'rtc-node': 5, 'livekit-client': 5 };

const network = await Network.lay();
const tap = await WebhookTap.start();
const [livekit, pages] = await Promise.all([LiveKit.start([tap.url], { network }), Pages.start(network.address)]);
const ground: Ground = { network, pagesUrl: pages.url, livekit, tap };
const played: Played[] = [];
try {
  const cases = CASES.filter(({ name }) => name.includes(values.only));
  const kinds = (['rtc-node', 'livekit-client'] as const).filter((kind) => values.client === undefined || values.client === kind);
  await Promise.all(kinds.map((kind) => inTurns(AT_ONCE[kind], many(cases, Number(values.runs)), (one) => recordOne(one, kind))));
} finally {
  await livekit.kill();
  tap.stop();
  pages.stop();
  await network.remove();
}
const order = new Map(CASES.map(({ name }, place) => [name, place]));
const table = tableOf(played.toSorted((a, b) => (order.get(a.name) ?? 0) - (order.get(b.name) ?? 0)));
const trade = tradeOf(played);
console.log([...table, '', ...trade].join('\n'));
if (values['write-docs']) {
  writeBetween('deploy/reasons.md', 'reasons', table);
  writeBetween('deploy/reasons.md', 'trade', trade);
}
process.exit(0);

async function recordOne(one: Case, kind: GuestKind): Promise<void> {
  const found = await play(one, kind, ground).catch((error: unknown) => {
    console.error(`${kind}, ${one.name}: ${String(error)}`);
    return null;
  });
  if (found === null) return;
  played.push(found);
  console.log(
    `${kind}, ${one.name}: ${found.told.map(({ what, afterMs }) => `${what} ${afterMs.toFixed(0)}`).join('; ')} | back ${found.backMs?.toFixed(0)}`,
  );
}

function many<T>(of: readonly T[], times: number): T[] {
  return Array.from({ length: times }, () => of).flat();
}

async function inTurns<T>(width: number, all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const left = [...all];
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let one = left.shift(); one !== undefined; one = left.shift()) await work(one);
    }),
  );
}
