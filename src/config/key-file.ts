// The file of LIVEKIT_KEY_FILE: a line for each key. To the SFU, which may share it, the lines are YAML, and mean here what they mean there:
// comments, quotes, a `---` at the head. To lk-jwt-service they are not, so that `key:secret` is one as well. What YAML would spread over
// several lines is refused rather than read as something else.
import type { ApiKey } from '../sfu/keys.ts';

export interface KeyFile {
  /** In the order of the file. */
  readonly keys: readonly ApiKey[];
  /** What would have been right where something is wrong; nothing of the file is in it. */
  readonly faults: readonly string[];
}

const QUOTED = `"(?:[^"\\\\]|\\\\.)*"|'(?:[^']|'')*'`;
const LINE = new RegExp(`^(${QUOTED}|[^\\s:#"'{[][^\\s:]*)\\s*:\\s*(${QUOTED}|[^\\s#"']\\S*)(?:\\s+#.*)?$`);
const HEAD = /^---(?:\s+#.*)?$/;
/** It would begin a text of several lines. */
const BLOCK = /^[|>][-+\d]*$/;

export function parseKeyFile(text: string): KeyFile {
  const keys = new Map<string, ApiKey>();
  const faults: string[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#') || (keys.size === 0 && HEAD.test(trimmed))) continue;
    const pair = pairIn(trimmed);
    if (pair === null) faults.push(`only lines of the form "key: secret" (line ${index + 1} is not)`);
    else if (keys.has(pair.key)) faults.push(`each key once (line ${index + 1} repeats one)`);
    else keys.set(pair.key, pair);
  }
  if (keys.size === 0) faults.push('at least one line of the form "key: secret"');
  return { keys: [...keys.values()], faults };
}

function pairIn(line: string): ApiKey | null {
  const [, name = '', value = ''] = LINE.exec(line) ?? [];
  if (BLOCK.test(value)) return null;
  const [key, secret] = [unquoted(name), unquoted(value)];
  return key === null || secret === null || key === '' || secret === '' ? null : { key, secret };
}

/** Null where an escape is one that JSON doesn't have: YAML's others have no place in a secret. */
function unquoted(text: string): string | null {
  if (text.startsWith("'")) return text.slice(1, -1).replaceAll("''", "'");
  if (!text.startsWith('"')) return text;
  try {
    return JSON.parse(text) as string;
  } catch {
    return null;
  }
}
