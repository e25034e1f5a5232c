// The way in.
import './compile-cache.js';
import { flushCompileCache } from 'node:module';
import { hearStopSignals } from './process/stop-signals.ts';

// Before all that takes a while to load. A command ends by the signal: who gave it is to know that it was not done.
if (process.argv.length === 2) hearStopSignals();
await import('./service.ts');
// Not only at a clean exit: a kill must find it written.
flushCompileCache();
// After it: compiled code is kept for the flags it was compiled with.
const { letShortLivedDie } = await import('./process/memory.ts');
letShortLivedDie();
