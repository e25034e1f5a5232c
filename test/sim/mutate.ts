// Preloaded (`node --import`) where a mutant is to run: hands out its one file changed. Nothing on disk is.
import { registerHooks } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { MUTANTS } from './mutants.ts';

const name = process.env.LASTWILL_MUTANT;
const mutant = MUTANTS.find((one) => one.name === name);
if (mutant === undefined) throw new Error(`no mutant is called ${name}`);
const target = pathToFileURL(path.resolve(import.meta.dirname, '../..', mutant.file)).href;

registerHooks({
  load: (url, context, nextLoad) => {
    const loaded = nextLoad(url, context);
    if (url !== target) return loaded;
    const text = Buffer.from(loaded.source as Uint8Array).toString('utf8');
    const parts = text.split(mutant.from);
    if (parts.length !== 2) throw new Error(`${mutant.file} has the text of the mutant "${mutant.name}" ${parts.length - 1} times`);
    return { ...loaded, source: parts.join(mutant.to) };
  },
});
