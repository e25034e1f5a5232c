// The file of LIVEKIT_KEY_FILE: one API key a line. The SFU may read the same file, as YAML, so comments, quotes and a `---` at the head
// mean here what they mean there. lk-jwt-service does not read it as YAML, so `key:secret` without a space is a key as well. YAML that
// takes several lines for one value is refused rather than read as something else.
import type { ApiKey } from '../sfu/keys.ts';

export interface KeyFile {
  /** In the order of the file. */
  readonly keys: readonly ApiKey[];
  /** For each wrong line what was expected, with its number; nothing of the file's text, which is secret. */
  readonly faults: readonly string[];
}

const QUOTED = `"(?:[^"\\\\]|\\\\.)*"|'(?:[^']|'')*'`;
const LINE = new RegExp(`^(${QUOTED}|[^\\s:#"'{[][^\\s:]*)\\s*:\\s*(${QUOTED}|[^\\s#"']\\S*)(?:\\s+#.*)?$`);
const HEAD = /^---(?:\s+#.*)?$/;
/** The begin of a YAML block, whose text is on the lines below. */
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

/** Null where it has an escape of YAML's that JSON doesn't have. */
function unquoted(text: string): string | null {
  if (text.startsWith("'")) return text.slice(1, -1).replaceAll("''", "'");
  if (!text.startsWith('"')) return text;
  try {
    return JSON.parse(text) as string;
  } catch {
    return null;
  }
}
