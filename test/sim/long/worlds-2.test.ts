import { expect, test } from 'vitest';
import { simulate } from './run.ts';

test('2,500 worlds, the second half', async () => {
  const { code, text } = await simulate(['--from', '2501', '--seeds', '2500']);
  console.log(text);
  expect(code, text).toBe(0);
});
