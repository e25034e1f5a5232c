import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    pool: 'forks',
    sequence: { concurrent: true },
    testTimeout: 180_000,
    hookTimeout: 120_000,
    teardownTimeout: 30_000,
    projects: [
      {
        extends: true,
        // Stories mostly wait (a crash takes LiveKit 20 s to notice), so many run side by side on few cores.
        test: {
          name: 'stories',
          root: import.meta.dirname,
          include: ['*.test.ts'],
          exclude: ['limited.test.ts'],
          globalSetup: ['./stack/shared-stack.ts'],
          maxWorkers: 2,
          maxConcurrency: 4,
        },
      },
      {
        extends: true,
        // Of what a homeserver lets through nine tenths are used: it has to be as quick as a homeserver with nothing else to do is. Each of
        // those stories alone: beside three replicas with a homeserver and a Redis of their own, 8 of the 9 were kept in one of some twenty
        // runs.
        test: {
          name: 'limits',
          root: import.meta.dirname,
          include: ['limited.test.ts'],
          globalSetup: ['./stack/shared-stack.ts'],
          sequence: { groupOrder: 1 },
          maxWorkers: 1,
          maxConcurrency: 3,
        },
      },
      {
        extends: true,
        // After them, since browsers need the cores for themselves.
        test: {
          name: 'browser',
          root: `${import.meta.dirname}/browser`,
          include: ['*.test.ts'],
          globalSetup: ['./stack/shared-call.ts'],
          sequence: { groupOrder: 2 },
          maxWorkers: 1,
          maxConcurrency: 3,
        },
      },
      {
        extends: true,
        // Alone: what is late here is to be the service's fault.
        test: { name: 'chaos', root: `${import.meta.dirname}/chaos`, include: ['*.test.ts'], sequence: { groupOrder: 3 }, maxWorkers: 1 },
      },
    ],
  },
});
