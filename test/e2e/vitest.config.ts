import { defineConfig } from 'vitest/config';

// Stories mostly wait (a crash takes LiveKit 20 s to notice), so many run side by side on few cores.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['**/*.test.ts'],
    globalSetup: ['./stack/shared-stack.ts'],
    pool: 'forks',
    maxWorkers: 2,
    maxConcurrency: 4,
    sequence: { concurrent: true },
    testTimeout: 180_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
  },
});
