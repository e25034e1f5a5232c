// What a person reads in the terminal: what runs and what to do next, or everything that keeps it from running.
import type { Config, Fault } from '../config/config.ts';

/** For the start in development; in production the log has it all, and the notes belong there as warnings. */
export function startupLines(config: Config, notes: readonly string[]): string[] {
  const { bind, livekit, homeservers } = config;
  const address = `${bind.host === '' ? 'localhost' : bind.host.includes(':') ? `[${bind.host}]` : bind.host}:${bind.port}`;
  const served = homeservers.fullAccess.all ? 'every homeserver' : homeservers.fullAccess.names.join(', ');
  const webhook = `http://${address}/sfu_webhook`;
  return [
    `lastwill, ${config.mode} mode: sends the delayed leave of a MatrixRTC member when it is gone from the SFU.`,
    `  listens on    http://${address}${bind.host === '' ? ' (every interface)' : ''}`,
    `  paired with   ${livekit.url} (${livekit.keys.length === 1 ? 'one API key' : `${livekit.keys.length} API keys`})`,
    `  serves        ${served}${homeservers.strangers === 'public' ? '' : ', on loopback addresses too'}`,
    `  keeps         ${config.redis === null ? config.dataDir : 'Redis'}`,
    ...notes.map((note) => `  note          ${note}`),
    ...nextLines(config, webhook),
  ];
}

/** The operator's next step. Without webhooks departures are noticed only by polling the SFU. */
function nextLines(config: Config, webhook: string): string[] {
  const [first] = config.livekit.keys;
  if (first.key !== 'devkey') return [`Next: let the SFU send its webhooks to ${webhook}, signed with one of these API keys.`];
  return [
    'Next: start the SFU with its webhooks sent here, if it does not run yet:',
    `  livekit-server --dev --config-body '{webhook: {api_key: devkey, urls: ["${webhook}"]}}'`,
    `then hand delegations over at http://${new URL(webhook).host}/v1/delegations. \`npm run demo\` shows the story without any of this.`,
  ];
}

/** Of one setting: a file that is another than was meant has as many as it has lines. */
const MOST_FAULTS = 5;

/** The notes as well: a misspelt setting, which is a note, is often the one that is missing. */
export function faultLines(faults: readonly Fault[], notes: readonly string[]): string[] {
  const settings = Map.groupBy(faults, ({ variable }) => variable);
  const summary =
    settings.size === 1 ? 'One setting keeps lastwill from starting:' : `${settings.size} settings keep lastwill from starting:`;
  return [
    summary,
    ...[...settings].flatMap(([variable, its]) => [
      ...its.slice(0, MOST_FAULTS).map(({ value, expected }) => `  ${variable}: ${printable(value)}; expected ${expected}.`),
      ...(its.length > MOST_FAULTS ? [`  ${variable}: and ${its.length - MOST_FAULTS} more; is it what it is meant to be?`] : []),
    ]),
    ...notes.map((note) => `  note: ${note}`),
  ];
}

/** A value from outside must neither control the terminal nor fill it. */
function printable(value: string): string {
  const plain = value.replace(/\p{Cc}/gu, '?');
  return plain.length > 120 ? `${plain.slice(0, 119)}…` : plain;
}
