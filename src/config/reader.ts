// The environment as one thing to ask: collects faults and notes while the sections of config.ts read, and never shows a secret.
import { SETTINGS } from './settings.ts';

export interface Fault {
  readonly variable: string;
  readonly value: string;
  readonly expected: string;
}

export type Env = Readonly<Record<string, string | undefined>>;
export type ReadFile = (path: string) => string;

/** A section that finds a fault goes on with a harmless value, so that all faults are found at once. */
export interface Reader {
  /** Null when unset; an empty string counts as unset. */
  get(variable: string): string | null;
  fault(variable: string, expected: string): void;
  /** As `fault`, for a value that may hold a password although its setting is no secret. */
  hiddenFault(variable: string, expected: string): void;
  note(text: string): void;
  /** The text of the file that the variable names; null: unset, or a fault (unreadable, empty). */
  file(variable: string): string | null;
}

export function createReader(env: Env, readFile: ReadFile, faults: Fault[], notes: string[]): Reader {
  const get = (variable: string): string | null => {
    const value = Object.hasOwn(env, variable) ? env[variable] : undefined;
    return value === undefined || value === '' ? null : value;
  };
  const add = (variable: string, expected: string, hidden: boolean): void => {
    const value = get(variable);
    faults.push({ variable, value: value === null ? '(not set)' : hidden ? '(hidden)' : value, expected });
  };
  const fault = (variable: string, expected: string): void => add(variable, expected, isHidden(variable, get(variable) ?? ''));
  const file = (variable: string): string | null => {
    const path = get(variable);
    if (path === null) return null;
    try {
      const text = readFile(path);
      if (text.trim() !== '') return text;
      fault(variable, 'a file that is not empty');
    } catch (error) {
      fault(variable, `a file that can be read${errorCode(error)}`);
    }
    return null;
  };
  return { get, fault, hiddenFault: (variable, expected) => add(variable, expected, true), note: (text) => void notes.push(text), file };
}

function isHidden(variable: string, value: string): boolean {
  const setting = SETTINGS.find(({ name }) => name === variable);
  return setting?.secret === true || (setting?.path === true && !/^(\.{0,2}\/|[A-Za-z]:\\)/.test(value));
}

function errorCode(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'string' && /^E[A-Z]+$/.test(code) ? ` (${code})` : '';
}

/** A URL parser takes more for a host than there can be. */
const HOST = /^[\w.-]+$|^\[[\da-f:.]+\]$/i;

/** Without a trailing slash; null after a fault. What has an @ may hold a password and isn't shown. */
export function readUrl(reader: Reader, variable: string, text: string, schemes: readonly string[]): string | null {
  const fault = text.includes('@') ? reader.hiddenFault : reader.fault;
  const expected = `a URL that starts with ${schemes.map((scheme) => `${scheme}//`).join(', ')}`;
  // A URL parser silently mends what is beyond plain ASCII, and two readers could then disagree about the host.
  const url = /^[\x21-\x5b\x5d-\x7e]+$/.test(text) ? URL.parse(text) : null;
  if (url === null || !schemes.includes(url.protocol) || !/^[a-z]+:\/\//i.test(text)) {
    fault(variable, expected);
  } else if (!HOST.test(url.hostname)) {
    // Such as a list whose entries are separated by something else than we take it to be.
    fault(variable, `${expected}, and the name or address of a host`);
  } else if (url.username !== '' || url.password !== '') {
    reader.hiddenFault(variable, 'a URL without user name and password');
  } else if (/[?#]/.test(text)) {
    fault(variable, 'a URL without query and fragment');
  } else {
    return `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`;
  }
  return null;
}

/** Null when unset or after a fault. */
export function readInteger(reader: Reader, variable: string, least: number, most: number): number | null {
  const text = reader.get(variable);
  if (text === null) return null;
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  reader.fault(variable, `a whole number from ${least} to ${most}`);
  return null;
}

export function readBoolean(reader: Reader, variable: string, byDefault: boolean): boolean {
  const text = reader.get(variable);
  if (text === null) return byDefault;
  if (text !== 'true' && text !== 'false') reader.fault(variable, 'true or false');
  return text === 'true';
}

/** As in a file of variables, which a shell reads without the quotes, and `docker run --env-file` with them. */
export function isQuoted(text: string): boolean {
  return /^(["']).*\1$/s.test(text);
}

export function splitList(text: string): readonly string[] {
  return text.split(',').flatMap((entry) => (entry.trim() === '' ? [] : [entry.trim()]));
}

/** The place of a setting in the table; −1: it is none of ours. */
export function rank(variable: string): number {
  return SETTINGS.findIndex(({ name }) => name === variable);
}
