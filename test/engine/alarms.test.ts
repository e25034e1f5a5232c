import { expect, it } from 'vitest';
import { createAlarms } from '../../src/engine/alarms.ts';
import { createLogger } from '../../src/log.ts';
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

it('says of Synapse what is so: which version, which process, which setting', () => {
  const lines: string[] = [];
  const alarms = createAlarms({ clock: createVirtualClock(), log: createLogger('info', (line) => void lines.push(line)) });
  for (const why of ['limited', 'unauthorized', 'dialect'] as const) alarms.failed(HOMESERVER, why);
  expect(lines[0]).toMatch(/rc_delayed_event_mgmt.*from 1\.156 on.*LIVEKIT_AS_TOKEN/);
  expect(lines[1]).toMatch(/LIVEKIT_AS_TOKEN.*has loaded.*1\.143/);
  // Without max_event_delay_duration it knows these calls all the same.
  expect(lines[2]).toMatch(/main process.*worker/);
  expect(lines[2]).not.toContain('max_event_delay_duration');
});
