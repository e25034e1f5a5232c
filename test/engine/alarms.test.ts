import { expect, it } from 'vitest';
import { createAlarms } from '../../src/engine/alarms.ts';
import { createLogger } from '../../src/telemetry.ts';
import { HOMESERVER } from '../support/fixtures.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

it('tells the operator what to change, once a minute', () => {
  const clock = createVirtualClock();
  const lines: string[] = [];
  const alarms = createAlarms({ clock, log: createLogger('info', (line) => void lines.push(line)) });
  for (let times = 0; times < 100; times += 1) alarms.failed(HOMESERVER, 'limited');
  alarms.failed(HOMESERVER, 'timeout');
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('rc_delayed_event_mgmt');
  clock.stall(60_000);
  alarms.failed(HOMESERVER, 'limited');
  alarms.failed(HOMESERVER, 'unauthorized');
  expect(lines).toHaveLength(3);
});
