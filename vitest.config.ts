// The fast tests; those that need a real SFU and homeserver, or minutes, have their own configuration beside them.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/e2e/**', 'test/sim/long/**', '**/node_modules/**'],
    // Properties and simulations are many small runs in one test; nothing here sleeps.
    testTimeout: 20_000,
    hookTimeout: 20_000,
  },
});
