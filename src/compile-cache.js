// Compiled code is kept beside the installed packages, so that a start after a crash takes half the time: every second without us counts
// against delays that are short. `npm start` loads this before everything else, and it is plain JavaScript: what takes the types out of
// TypeScript is then not even loaded, for what it made of each file is kept as well.
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

// NODE_COMPILE_CACHE, where it is set, goes before.
enableCompileCache(join(import.meta.dirname, '../node_modules/.cache/lastwill'));
