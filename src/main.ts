// The way in. Compiled code is kept beside the installed packages, so that a start after a crash takes half the time: every second
// without us counts against delays that are short.
import { enableCompileCache, flushCompileCache } from 'node:module';
import { join } from 'node:path';

enableCompileCache(join(import.meta.dirname, '../node_modules/.cache/lastwill'));
await import('./service.ts');
// Not only at a clean exit: a kill must find it written.
flushCompileCache();
