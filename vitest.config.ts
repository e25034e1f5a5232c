// The fast tests; those that need a real SFU and homeserver, or minutes, have their own configuration beside them.
import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/e2e/**', 'test/sim/long/**', '**/node_modules/**'],
    // Usually one less than there are processors: of two, half.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    // Properties and simulations are many small runs in one test, of up to a few seconds each; nothing here sleeps. A machine that is shared
    // may take many times as long.
    testTimeout: 120_000,
    hookTimeout: 60_000,
  },
});
