// The way in.
import './compile-cache.js';
import { flushCompileCache } from 'node:module';

await import('./service.ts');
// Not only at a clean exit: a kill must find it written.
flushCompileCache();
// After it: compiled code is kept for the flags it was compiled with.
const { letShortLivedDie } = await import('./memory.ts');
letShortLivedDie();
