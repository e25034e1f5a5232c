import type { LookupAddress } from 'node:dns';
import { describe, expect, test } from 'vitest';
import { lastKnown } from '../../src/dns/last-known.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const at = (address: string): readonly LookupAddress[] => [{ address, family: 4 }];
const failing = (code: string): Error => Object.assign(new Error(code), { code });

function world() {
  const clock = createVirtualClock();
  const questions: (PromiseWithResolvers<readonly LookupAddress[]> & { host: string })[] = [];
  const resolve = lastKnown({
    clock,
    resolve: (host) => {
      const question = { host, ...Promise.withResolvers<readonly LookupAddress[]>() };
      questions.push(question);
      return question.promise;
    },
  });
  /** Its first address or its code once there is one. */
  const dial = (host = 'a.test') => {
    const seen: { got: string | undefined } = { got: undefined };
    resolve(host).then(
      (found) => {
        seen.got = found[0]?.address;
      },
      (error: NodeJS.ErrnoException) => {
        seen.got = error.code;
      },
    );
    return seen;
  };
  const answered = async (address: string, host = 'a.test') => {
    const seen = dial(host);
    questions.at(-1)?.resolve(at(address));
    await clock.settle();
    expect(seen.got).toBe(address);
  };
  return { clock, questions, dial, answered };
}

describe('a name that has been answered', () => {
  test('is asked for again each time, and a new address is used', async () => {
    const { answered, questions } = world();
    await answered('192.0.2.1');
    await answered('192.0.2.2');
    expect(questions).toHaveLength(2);
  });

  test('is taken for what it was half a second after it was asked for in vain, and at once by those who come later', async () => {
    const { clock, questions, dial, answered } = world();
    await answered('192.0.2.1');
    const first = dial();
    await clock.advance(499);
    expect(first.got).toBeUndefined();
    const second = dial();
    await clock.advance(1);
    expect([first.got, second.got]).toEqual(['192.0.2.1', '192.0.2.1']);
    const third = dial();
    await clock.advance(0);
    expect(third.got).toBe('192.0.2.1');
    expect(questions).toHaveLength(2);
    // The late answer is of use to the next.
    questions.at(-1)?.resolve(at('192.0.2.2'));
    await clock.settle();
    const fourth = dial();
    await clock.advance(500);
    expect(fourth.got).toBe('192.0.2.2');
    expect(questions).toHaveLength(3);
  });

  test.each(['EAI_AGAIN', 'EAI_FAIL', 'ESERVFAIL', 'ETIMEOUT', 'ECONNREFUSED', 'ECANCELLED', 'EMFILE'])(
    'is taken for what it was when asking fails: %s',
    async (code) => {
      const { clock, questions, dial, answered } = world();
      await answered('192.0.2.1');
      const seen = dial();
      questions.at(-1)?.reject(failing(code));
      await clock.settle();
      expect(seen.got).toBe('192.0.2.1');
      expect(clock.nextTimerMs()).toBeNull();
    },
  );

  test.each(['ENOTFOUND', 'ENODATA'])('is forgotten once it has none any more: %s', async (code) => {
    const { clock, questions, dial, answered } = world();
    await answered('192.0.2.1');
    const seen = dial();
    questions.at(-1)?.reject(failing(code));
    await clock.settle();
    expect(seen.got).toBe(code);
    const later = dial();
    questions.at(-1)?.reject(failing('EAI_AGAIN'));
    await clock.settle();
    expect(later.got).toBe('EAI_AGAIN');
  });

  test('is not known any more a day later', async () => {
    const { clock, questions, dial, answered } = world();
    await answered('192.0.2.1');
    await clock.advance(24 * 3_600_000);
    const seen = dial();
    questions.at(-1)?.reject(failing('EAI_AGAIN'));
    await clock.settle();
    expect(seen.got).toBe('EAI_AGAIN');
  });

  test('is not forgotten for the names of others, up to a thousand', async () => {
    const { clock, questions, dial, answered } = world();
    await answered('192.0.2.1', 'first.test');
    await answered('192.0.2.2', 'second.test');
    await answered('192.0.2.2', 'second.test');
    await answered('192.0.2.1', 'first.test');
    for (let n = 0; n < 999; n += 1) await answered('192.0.2.3', `${n}.test`);
    const seen = [dial('first.test'), dial('second.test')];
    for (const question of questions.slice(-2)) question.reject(failing('EAI_AGAIN'));
    await clock.settle();
    expect(seen.map(({ got }) => got)).toEqual(['192.0.2.1', 'EAI_AGAIN']);
  });
});

describe('a name that has not been answered', () => {
  test('is asked for once by all who dial it, and its answer waited for', async () => {
    const { clock, questions, dial } = world();
    const seen = [dial(), dial(), dial('b.test')];
    await clock.advance(10_000);
    expect(questions.map(({ host }) => host)).toEqual(['a.test', 'b.test']);
    questions[0]?.resolve(at('192.0.2.1'));
    questions[1]?.reject(failing('EAI_AGAIN'));
    await clock.settle();
    expect(seen.map(({ got }) => got)).toEqual(['192.0.2.1', '192.0.2.1', 'EAI_AGAIN']);
  });

  test('is asked for anew after a failure', async () => {
    const { clock, questions, dial, answered } = world();
    const seen = dial();
    questions[0]?.reject(failing('EAI_AGAIN'));
    await clock.settle();
    expect(seen.got).toBe('EAI_AGAIN');
    await answered('192.0.2.1');
    expect(questions).toHaveLength(2);
  });
});
