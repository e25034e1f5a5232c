// What an operator reads: the log, JSON lines, with secrets taken out whatever the caller hands in.
import pino from 'pino';
import type { LogLevel } from './config/config.ts';

/** What parts log with: the fields first, then a constant message. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export function createLogger(level: LogLevel, write: (line: string) => void): Log {
  const options: pino.LoggerOptions = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { err: (value: unknown) => value },
  };
  return redacting(pino(options, { write: (line: string) => write(visible(line)) }));
}

/**
 * What JSON may hold as it is, and a terminal or a viewer of logs would act upon: control characters (C1 and DEL; JSON escapes the others),
 * the line ends of Unicode, and what turns the direction of text. Strangers choose names: of devices, users and rooms.
 */
const ACTED_UPON = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** The same JSON, with those written by their numbers. */
function visible(line: string): string {
  return line.replace(ACTED_UPON, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function redacting(logger: pino.Logger): Log {
  const at = (level: 'debug' | 'info' | 'warn' | 'error') => (fields: object, message: string) => {
    if (logger.isLevelEnabled(level)) logger[level](redact(fields), scrub(message));
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

const HIDDEN = '(hidden)';
const SECRET_NAME = /(token|tokens|secret|secrets|password|jwt|authorization|cookie|delayid|handles|apikey|storekey|^keys?)$/;
/** Secrets inside other text: in URLs of MSC4140 and OpenID, in headers, before the @ of a URL. */
const SECRET_TEXT: readonly RegExp[] = [
  /(\/delayed_events\/)[^/?#\s"']+/g,
  /(\/future\/)[^/?#\s"']+/g,
  /(\b\w*token=)[^&#\s"']+/gi,
  /(\bBearer\s+)[^\s"',]+/gi,
  /(:\/\/)[^/@\s]+(?=@)/g,
];
/** Matches whatever is a secret in text, and more. Hardly any text does, so one try is enough for most. */
const SUSPICIOUS = /\/delayed_events\/|\/future\/|token=|bearer|:\/\/[^/@\s]+@|eyJ/i;
const DEEPEST = 6;
const LONGEST_LIST = 100;

function scrub(text: string): string {
  if (!SUSPICIOUS.test(text)) return text;
  const scrubbed = SECRET_TEXT.reduce((left, pattern) => left.replace(pattern, `$1${HIDDEN}`), text);
  return scrubbed.replace(DOTTED, withoutJwts);
}

/** Words joined by dots, each looked at once: one pattern for a whole JWT would try each of its beginnings in a long word to the end. */
const DOTTED = /[\w-]+(?:\.[\w-]+)*\.?/g;
const JWT_BEGINS = /\beyJ[\w-]{5,}$/;

function withoutJwts(dotted: string): string {
  const words = dotted.split('.');
  const kept: string[] = [];
  for (let nth = 0; nth < words.length; nth += 1) {
    const word = words[nth] ?? '';
    const isJwt = nth + 2 < words.length && word.includes('eyJ') && JWT_BEGINS.test(word);
    kept.push(isJwt ? word.replace(JWT_BEGINS, HIDDEN) : word);
    if (isJwt) nth += 2;
  }
  return kept.join('.');
}

function redact(fields: object): object {
  return fields instanceof Error ? { err: redactValue(fields, 0) } : (redactValue(fields, 0) as object);
}

function redactValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return scrub(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'function' || typeof value === 'symbol') return undefined;
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= DEEPEST) return '(deep)';
  if (ArrayBuffer.isView(value)) return `(${value.byteLength} bytes)`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Error) return redactError(value, depth);
  if (value instanceof URL) return scrub(value.href);
  if (value instanceof Map) return redactValue([...value], depth);
  if (Array.isArray(value) || value instanceof Set) {
    return [...value].slice(0, LONGEST_LIST).map((item: unknown) => redactValue(item, depth + 1));
  }
  return redactFields(value as Readonly<Record<string, unknown>>, depth);
}

/** A plain object in which nothing has to be hidden is not copied: so are nearly all lines, several for each delegation. */
function redactFields(value: Readonly<Record<string, unknown>>, depth: number): object {
  let redacted: Record<string, unknown> | null = Object.getPrototypeOf(value) === Object.prototype ? null : { ...value };
  for (const name of Object.keys(value)) {
    const part = value[name];
    const shown = isSecretName(name) && part !== null ? HIDDEN : redactValue(part, depth + 1);
    if (shown === part) continue;
    redacted ??= { ...value };
    redacted[name] = shown;
  }
  return redacted ?? value;
}

/** Only what an Error has by definition: clients hang whole requests, headers included, on theirs. */
function redactError(error: Error, depth: number): object {
  const code = 'code' in error && (typeof error.code === 'string' || typeof error.code === 'number') ? { code: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: redactValue(error.cause, depth + 1) };
  return { type: error.name, message: scrub(error.message), ...code, stack: scrub(error.stack ?? ''), ...cause };
}

/** Which names of fields are secrets', as judged before: nearly all are our own, the same in every line. */
const judged = new Map<string, boolean>();
const MOST_JUDGED = 1_000;

function isSecretName(name: string): boolean {
  const known = judged.get(name);
  if (known !== undefined) return known;
  const secret = SECRET_NAME.test(name.toLowerCase().replace(/[^a-z]/g, ''));
  if (judged.size < MOST_JUDGED) judged.set(name, secret);
  return secret;
}
