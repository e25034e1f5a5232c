// What takes minutes: thousands of worlds, and the broken engines that the judge has to notice. `.ci/run` runs it.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { root: import.meta.dirname, include: ['*.test.ts'], testTimeout: 600_000, maxWorkers: 2 },
});
