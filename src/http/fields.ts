// What the parsers of all bodies share: the bytes as JSON, and one error that names the field which is wrong. No value ever gets into an error:
// it may be a token.
import type { output as Output, ZodError, ZodType } from 'zod';
import { MatrixError } from './errors.ts';

/** What delay ids and tokens must be (Matrix specification, opaque identifiers). */
export const GRAMMAR = 'must be 1 to 255 of 0-9 A-Z a-z . _ ~ -';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @throws MatrixError 400 M_NOT_JSON when the bytes are not JSON text. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(utf8.decode(bytes));
  } catch {
    throw new MatrixError(400, 'M_NOT_JSON', 'The body is not JSON');
  }
}

/** `path`: where in the body the value is. @throws MatrixError 400 M_BAD_JSON naming the first field that is wrong, missing or unknown. */
export function parseAs<S extends ZodType>(schema: S, value: unknown, path: readonly string[] = []): Output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { field, what } = firstFault(result.error, value);
  throw bad([...path, ...field], what);
}

/** The first thing that is wrong, in words that hold no value. */
export function firstFault(error: ZodError, value: unknown): { readonly field: readonly string[]; readonly what: string } {
  const [issue] = error.issues;
  if (issue === undefined) return { field: [], what: 'is wrong' };
  const field = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') return { field: [...field, short(issue.keys[0] ?? '')], what: 'is not known' };
  const missing = issue.code === 'invalid_type' && valueAt(value, issue.path) === undefined;
  return { field, what: missing ? 'is required' : issue.message };
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((part, key) => (isObject(part) ? part[String(key)] : undefined), value);
}

/** The name of an unknown field, cut and cleaned: it is a stranger's text. */
function short(name: string): string {
  return name.replace(/[^\x21-\x7e]/g, '?').slice(0, 64);
}

/** @throws MatrixError 400 M_BAD_JSON: it is missing, null or empty, or has no UTF-8 form. */
export function required(field: string, value: string | null | undefined): string {
  if (value === undefined || value === null || value === '') throw bad([field], 'is required');
  return wellFormed(field, value);
}

/** Half a surrogate pair has no UTF-8 form: two different ids with one would be hashed to the same name on the SFU. */
export function wellFormed(field: string, value: string): string {
  if (!value.isWellFormed()) throw bad([field], 'must be well-formed Unicode');
  return value;
}

export function bad(path: readonly string[], what: string): MatrixError {
  return new MatrixError(400, 'M_BAD_JSON', sentence(path, what));
}

/** The text of an error about a field; an empty path is the body as a whole. */
export function sentence(path: readonly string[], what: string): string {
  return `${path.length === 0 ? 'The body' : path.join('.')} ${what}`;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
