// Every row, in the order of the table. Each starts its subject anew with an empty data folder.
import { DEPARTURE_ROWS } from './rows-departures.ts';
import { HELD_ROWS } from './rows-held.ts';
import { REQUEST_ROWS } from './rows-requests.ts';
import { type Figure, HOUR_MS, type Row } from './stage.ts';
import { closedLoop, written } from './wire.ts';
import { startWorld } from './world.ts';

export const ROWS: readonly Row[] = [...REQUEST_ROWS, ...DEPARTURE_ROWS, ...HELD_ROWS];

/** The generator against a server that does nothing: no row can be faster than this. */
export async function headroom(): Promise<Figure[]> {
  const world = await startWorld(1, 1, HOUR_MS, { tls: false });
  const request = written('POST', '/nothing', { 'Content-Type': 'application/json', Authorization: 'x'.repeat(300) }, 'x'.repeat(700));
  const figures: Figure[] = [];
  for (const concurrency of [1, 64]) {
    const load = await closedLoop(world.port, concurrency, 1_000_000, () => request, 2_000);
    figures.push({
      label: `generator against an empty server, c = ${concurrency}`,
      unit: '/s',
      value: (load.latencies.length * 1000) / load.tookMs,
    });
  }
  await world.close();
  return figures;
}
