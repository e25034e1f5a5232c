import { describe, expect, test } from 'vitest';
import { inTime, steadyTime, systemClock, systemRandom } from '../src/clock.ts';

test('random bytes are as many as were asked for, and none are given twice', () => {
  const { bytes } = systemRandom();
  const drawn = [...Array.from({ length: 1_000 }, () => bytes(16)), bytes(10_000), bytes(16)];
  expect(drawn.map(({ length }) => length)).toEqual([...Array(1_000).fill(16), 10_000, 16]);
  expect(new Set(drawn.map((one) => Buffer.from(one.subarray(0, 16)).toString('hex'))).size).toBe(drawn.length);
});

test('what a timer was to do may fail: it is told of, and every second comes again', async () => {
  const told: unknown[] = [];
  const { after, everySecond } = systemClock((error) => told.push(error));
  const fails = (what: string) => () => {
    throw new Error(what);
  };
  after(0, fails('once'));
  let ticks = 0;
  const done = Promise.withResolvers<void>();
  const stop = everySecond(() => {
    ticks += 1;
    if (ticks === 2) done.resolve();
    fails('tick')();
  });
  await done.promise;
  await new Promise((later) => void setImmediate(later));
  stop();
  expect(told.map((error) => (error as Error).message)).toEqual(['once', 'tick', 'tick']);
});

describe('time goes on steadily', () => {
  /** The clocks of a machine that was started a minute before the process. */
  function machine() {
    const times = { awake: 60_000, uptime: 60_000, wall: 1_800_000_000_000 };
    let stoppedMs = 0;
    const pass = (ms: number): void => {
      for (const name of ['awake', 'uptime', 'wall'] as const) times[name] += ms;
    };
    const passed = steadyTime({
      awakeMs: () => times.awake,
      uptimeMs: () => Math.floor(times.uptime / 10) * 10,
      wallMs: () => {
        const { wall } = times;
        pass(stoppedMs);
        stoppedMs = 0;
        return wall;
      },
    });
    const startMs = passed();
    return {
      times,
      pass,
      sleep: (ms: number) => {
        times.uptime += ms;
        times.wall += ms;
      },
      stopInLook: (ms: number) => {
        stoppedMs = ms;
      },
      passedMs: () => passed() - startMs,
    };
  }

  test('while the machine is asleep, too: the first who asks is told', () => {
    const { pass, sleep, passedMs } = machine();
    pass(5_000);
    expect(passedMs()).toBe(5_000);
    sleep(600_000);
    pass(10);
    expect(passedMs()).toBe(605_010);
    pass(490);
    expect(passedMs()).toBe(605_500);
    for (let n = 0; n < 100; n += 1) {
      pass(777);
      passedMs();
    }
    sleep(20_000);
    pass(1_000);
    expect(passedMs()).toBe(605_500 + 77_700 + 21_000);
  });

  test('whichever way the wall clock is set, and however much later the uptime is told to be by another machine', () => {
    const { times, pass, passedMs } = machine();
    for (const stepMs of [86_400_000, -3_600_000, 120_000]) {
      times.wall += stepMs;
      pass(1_000);
      passedMs();
    }
    times.uptime += 86_400_000;
    pass(1_000);
    passedMs();
    times.wall += 86_400_000;
    pass(1_000);
    expect(passedMs()).toBe(5_000);
  });

  test('while the process is stopped, and that is not counted twice, wherever it is in its look at the clocks', () => {
    const { pass, stopInLook, passedMs } = machine();
    pass(1_000);
    stopInLook(60_000);
    passedMs();
    pass(1_000);
    passedMs();
    pass(1_000);
    expect(passedMs()).toBe(63_000);
  });
});

test('what takes longer than it may is refused with the reason of whoever waits; its own end is heard in time, and harms nobody later', async () => {
  const [clock, late, slow] = [systemClock(), () => new Error('late'), Promise.withResolvers<never>()];
  await expect(inTime(clock, 5, slow.promise, late)).rejects.toThrow('late');
  slow.reject(new Error('nobody waits for it'));
  expect(await inTime(clock, 60_000, Promise.resolve('there'), late)).toBe('there');
  await expect(inTime(clock, 60_000, Promise.reject(new Error('its own')), late)).rejects.toThrow('its own');
});
