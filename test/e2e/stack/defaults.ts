// lastwill's own waits, where no setting changes them: the promise that everything here is held to.
import { readConfig } from '../../../src/config/config.ts';
import type { Policy } from '../../../src/delegation/state.ts';

export function defaultWaits(): Policy['waitMs'] {
  const read = readConfig({}, () => '');
  if (read.kind === 'faults') throw new Error('without any setting the configuration is that of development');
  return read.config.policy.waitMs;
}
