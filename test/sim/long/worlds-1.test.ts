import { expect, test } from 'vitest';
import { simulate } from './run.ts';

test('2,500 worlds, the first half', async () => {
  const { code, text } = await simulate(['--seeds', '2500']);
  console.log(text);
  expect(code, text).toBe(0);
});
