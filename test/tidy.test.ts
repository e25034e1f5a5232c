// Reads our own source and holds it to the house: who may import whom, what only the clock may call, how long a thing may be.
// Every rule says its reason where it fails.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { SETTINGS, settingsTable } from '../src/config/settings.ts';
import { METRICS, metricsTable } from '../src/metrics.ts';

const ROOT = path.resolve(import.meta.dirname, '..');
const LONGEST_FILE = 400;
const LONGEST_FUNCTION = 70;

interface Source {
  /** From the root, with slashes. */
  readonly file: string;
  readonly text: string;
  /** The text with comments, strings and regular expressions blanked, line by line as long as before. */
  readonly code: string;
  readonly imports: readonly string[];
}

/** What every store is made of. */
const STORE = ['store', 'attendance', 'codec', 'seal', 'short-name', 'sightings', 'slots', 'parts', 'shares'].map(
  (name) => `src/store/${name}.ts`,
);

/** How whoever is called is called. */
const OUTBOUND = ['src/outgoing/', 'src/body-buffer.ts', 'src/dns/'];

/** What a file or folder may import of ours; its own folder it always may. The first prefix that fits counts. */
const RANKS: readonly [prefix: string, mayImport: readonly string[]][] = [
  ['src/delegation/', []],
  ['src/clock.ts', []],
  ['src/redis-url.ts', []],
  ['src/library-parts.ts', []],
  ['src/lru-map.ts', []],
  ['src/body-buffer.ts', []],
  ['src/once-a-minute.ts', ['src/clock.ts']],
  ['src/config/settings.ts', []],
  ['src/config/reader.ts', ['src/config/settings.ts']],
  ['src/config/service-links.ts', ['src/config/reader.ts']],
  ['src/config/bind.ts', []],
  ['src/config/registration.ts', []],
  ['src/config/key-file.ts', ['src/sfu/keys.ts']],
  ['src/config/store-settings.ts', ['src/redis-url.ts', 'src/config/settings.ts', 'src/config/reader.ts']],
  ['src/config/new-registration.ts', ['src/config/registration.ts', 'src/clock.ts', 'src/homeserver/names.ts']],
  [
    'src/config/config.ts',
    [
      'src/delegation/',
      'src/homeserver/names.ts',
      'src/homeserver/address.ts',
      'src/sfu/keys.ts',
      'src/config/bind.ts',
      'src/config/key-file.ts',
      'src/redis-url.ts',
      'src/config/registration.ts',
      'src/config/service-links.ts',
      'src/config/settings.ts',
      'src/config/reader.ts',
      'src/config/store-settings.ts',
    ],
  ],
  ['src/health-check.ts', ['src/config/bind.ts', 'src/config/service-links.ts']],
  ['src/process/descriptors.ts', []],
  ['src/process/memory.ts', ['src/clock.ts']],
  ['src/process/priority.ts', []],
  ['src/process/slow-disk.ts', ['src/clock.ts', 'src/log.ts', 'src/once-a-minute.ts']],
  ['src/process/standstill.ts', ['src/clock.ts', 'src/log.ts']],
  ['src/process/startup-report.ts', ['src/config/config.ts']],
  ['src/process/stdout.ts', ['src/clock.ts']],
  ['src/process/stop-signals.ts', []],
  ['src/version.ts', []],
  ['src/log.ts', ['src/config/config.ts']],
  ['src/metrics.ts', ['src/delegation/', 'src/config/config.ts', 'src/homeserver/failures.ts', 'src/library-parts.ts', 'src/version.ts']],
  // Each store knows what all of them are, and none of the others.
  ['src/store/sqlite/', [...STORE, 'src/delegation/', 'src/clock.ts']],
  ['src/store/redis/', [...STORE, 'src/delegation/', 'src/clock.ts', 'src/redis-url.ts', 'src/library-parts.ts']],
  ...STORE.map((file): [string, string[]] => [file, [...STORE, 'src/delegation/', 'src/clock.ts']]),
  ['src/outgoing/', ['src/clock.ts', 'src/library-parts.ts']],
  ['src/dns/', ['src/clock.ts', 'src/lru-map.ts']],
  ['src/homeserver/', [...OUTBOUND, 'src/delegation/', 'src/clock.ts', 'src/lru-map.ts', 'src/library-parts.ts']],
  ['src/sfu/', [...OUTBOUND, 'src/delegation/', 'src/clock.ts', 'src/lru-map.ts', 'src/library-parts.ts']],
  [
    'src/engine/',
    [
      'src/delegation/',
      'src/clock.ts',
      'src/store/',
      'src/homeserver/',
      'src/sfu/',
      'src/log.ts',
      'src/metrics.ts',
      'src/lru-map.ts',
      'src/once-a-minute.ts',
    ],
  ],
  [
    'src/takeover/',
    [
      'src/delegation/',
      'src/clock.ts',
      'src/redis-url.ts',
      'src/engine/',
      'src/homeserver/',
      'src/log.ts',
      'src/metrics.ts',
      'src/library-parts.ts',
    ],
  ],
  [
    'src/http/',
    [
      'src/delegation/',
      'src/engine/',
      'src/sfu/',
      'src/homeserver/',
      'src/log.ts',
      'src/metrics.ts',
      'src/config/config.ts',
      'src/clock.ts',
      'src/lru-map.ts',
      'src/body-buffer.ts',
      'src/once-a-minute.ts',
      'src/library-parts.ts',
      'src/store/store.ts',
      'src/store/attendance.ts',
    ],
  ],
  ['src/behind-homeserver.ts', ['src/']],
  ['src/shared-store.ts', ['src/']],
  ['src/known-sessions.ts', ['src/delegation/', 'src/store/store.ts']],
  ['src/store-copy.ts', ['src/']],
  ['src/service.ts', ['src/']],
  ['src/compile-cache.js', []],
  ['src/main.ts', ['src/compile-cache.js', 'src/process/stop-signals.ts', 'src/process/memory.ts', 'src/service.ts']],
];

interface Ban {
  readonly pattern: RegExp;
  readonly except: readonly string[];
  readonly reason: string;
}
const TIME = 'time and chance come from src/clock.ts, so that a simulation can own them';
const OUTPUT = 'what is not a log line of src/log.ts escapes redaction';
const BANS: readonly Ban[] = [
  { pattern: /\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\bhrtime\b/, except: ['src/clock.ts'], reason: TIME },
  { pattern: /\bset(Timeout|Interval)\b|\bAbortSignal\.timeout\b/, except: ['src/clock.ts'], reason: TIME },
  { pattern: /\bMath\.random\b|\brandom(UUID|Int)\b|\bgetRandomValues\b/, except: ['src/clock.ts'], reason: TIME },
  // The nonce of a seal must never come twice, and what a simulation owns does.
  { pattern: /\brandomBytes\b/, except: ['src/clock.ts', 'src/store/seal.ts'], reason: TIME },
  { pattern: /\bconsole\b|\bprocess\.(stdout|stderr)\b/, except: ['src/service.ts', 'src/process/startup-report.ts'], reason: OUTPUT },
  {
    pattern: /\bprocess\.env\b/,
    except: ['src/service.ts', 'src/health-check.ts'],
    reason: 'settings come from src/config/config.ts, checked and all at once',
  },
  {
    pattern: /\bprocess\.(exit|kill|abort)\b/,
    except: ['src/service.ts', 'src/health-check.ts'],
    reason: 'only the one who started the parts knows what is to be closed first',
  },
];

const SOURCES = sourcesUnder('src');
const BY_FILE = new Map(SOURCES.map((source) => [source.file, source]));

describe('imports', () => {
  test('go down the ranks only', () => {
    const offences = SOURCES.flatMap(({ file, imports }) => {
      const rank = RANKS.find(([prefix]) => file.startsWith(prefix));
      if (rank === undefined) return [`${file} has no rank: say in RANKS what it may import`];
      const [own, mayImport] = rank;
      const allowed = own.endsWith('/') ? [own, ...mayImport] : mayImport;
      const wrong = imports.filter((target) => target.startsWith('src/') && !allowed.some((prefix) => target.startsWith(prefix)));
      return wrong.map(
        (target) =>
          `${file} imports ${target}: it may import ${allowed.join(', ') || 'nothing of ours'}, so that each part can be read alone`,
      );
    });
    expect(offences).toEqual([]);
  });

  test('the pure heart knows no package but the hash', () => {
    const foreign = SOURCES.filter(({ file }) => file.startsWith('src/delegation/')).flatMap(({ file, imports }) =>
      imports.filter((target) => !target.startsWith('src/') && target !== 'node:crypto').map((target) => `${file} imports ${target}`),
    );
    expect(foreign, 'decisions are functions of what they are given; node:crypto is there for names made by hashing').toEqual([]);
  });

  test('make no ring', () => {
    expect(
      SOURCES.flatMap(({ file }) => ringThrough(file)),
      'a ring has no file that can be understood first; types count',
    ).toEqual([]);
  });

  test('lead to files that exist, and to every file', () => {
    const missing = SOURCES.flatMap(({ file, imports }) =>
      imports.filter((target) => target.startsWith('src/') && !BY_FILE.has(target)).map((target) => `${file} imports ${target}`),
    );
    expect(missing).toEqual([]);
    const imported = new Set(SOURCES.flatMap(({ imports }) => imports));
    // Two ways in: the service, and what the image asks itself.
    const ways = ['src/main.ts', 'src/health-check.ts'];
    const dead = SOURCES.filter(({ file }) => !ways.includes(file) && !imported.has(file)).map(({ file }) => file);
    expect(dead, 'what nothing imports is not part of the product').toEqual([]);
    expect(imported, 'main.ts starts things when it is loaded').not.toContain('src/main.ts');
  });
});

describe('names', () => {
  test('say what a file is about', () => {
    const vague = SOURCES.map(({ file }) => file).filter((file) => /(^|[/_-])(utils?|helpers?|managers?|common)([/._-]|$)/i.test(file));
    expect(vague, 'such a name holds anything, and in time does').toEqual([]);
    const barrels = SOURCES.map(({ file }) => file).filter((file) => file.endsWith('/index.ts'));
    expect(barrels, 'a barrel hides who needs what, and makes rings').toEqual([]);
  });
});

describe('calls', () => {
  test.each(BANS)('$pattern: $reason', ({ pattern, except, reason }) => {
    const offences = SOURCES.filter(({ file }) => !except.includes(file)).flatMap(({ file, code }) =>
      lines(code).flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1} ${line.trim()}: ${reason}`] : [])),
    );
    expect(offences).toEqual([]);
  });

  test('timers are not imported either', () => {
    const offences = SOURCES.filter(({ imports }) => imports.some((target) => /^(node:)?timers/.test(target))).map(({ file }) => file);
    expect(offences, TIME).toEqual([]);
  });
});

describe('lengths', () => {
  test(`a file has at most ${LONGEST_FILE} lines`, () => {
    const long = SOURCES.filter(({ text }) => lines(text).length > LONGEST_FILE + 1).map(
      ({ file, text }) => `${file}: ${lines(text).length}`,
    );
    expect(long, 'split it by the next noun of its field').toEqual([]);
  });

  test(`a function has at most ${LONGEST_FUNCTION} lines`, () => {
    const long = SOURCES.flatMap(({ file, code }) =>
      functionsIn(code).flatMap(({ line, length }) => (length > LONGEST_FUNCTION ? [`${file}:${line}: ${length} lines`] : [])),
    );
    expect(long, 'a function is read at one glance').toEqual([]);
  });
});

test('nothing is left for later', () => {
  const found = SOURCES.flatMap(({ file, text }) =>
    lines(text).flatMap((line, index) => (/\b(TO[D]O|FIX[M]E|X{3})\b/.test(line) ? [`${file}:${index + 1}`] : [])),
  );
  expect(found, 'what is to be done is an issue; what is not is not in the code').toEqual([]);
});

describe('README', () => {
  const readme = existsSync(path.join(ROOT, 'README.md')) ? readFileSync(path.join(ROOT, 'README.md'), 'utf8') : '';
  const TABLES: [string, () => string][] = [
    ['settings', settingsTable],
    ['metrics', metricsTable],
  ];
  test.for(TABLES)('the table of %s is the one of the source', ([name, table], { skip }) => {
    skip(!readme.includes(`<!-- ${name} -->`), `README.md has no <!-- ${name} -->`);
    const between = new RegExp(`<!-- ${name} -->\\n([\\s\\S]*?)<!-- /${name} -->`).exec(readme)?.[1];
    expect(between?.trim(), 'paste what the function prints between the two markers').toBe(table().trim());
  });
});

describe('deploy', () => {
  const files = readdirSync(path.join(ROOT, 'deploy')).map((name) => `deploy/${name}`);
  const texts = files.map((file) => [file, readFileSync(path.join(ROOT, file), 'utf8')] as const);

  test('names only settings that there are', () => {
    // The SFU's own.
    const known = new Set(['LIVEKIT_KEYS', ...SETTINGS.map(({ name }) => name)]);
    const unknown = texts.flatMap(([file, text]) =>
      [...text.matchAll(/\b(?:LASTWILL|LIVEKIT)_[A-Z_]+\b/g)].filter(([name]) => !known.has(name)).map(([name]) => `${file}: ${name}`),
    );
    expect(unknown, 'an unknown setting has no effect').toEqual([]);
  });

  test('starts it as `npm start` does', () => {
    const { scripts } = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as { scripts: { start: string } };
    const plain = (text: string) => text.replace(/[[\]",]/g, '');
    const [, environment = '', command = ''] = /^((?:[A-Z_]+=\S+ )*)exec (.*)$/.exec(scripts.start) ?? [];
    const lines = texts.flatMap(([, text]) => text.split('\n')).filter((line) => /^(RUN|CMD|ExecStart).*src\/main\.ts/.test(line));
    expect(lines).toHaveLength(3);
    expect(
      lines.filter((line) => !plain(line).includes(command)),
      'what is set there is what was measured',
    ).toEqual([]);
    const starting = texts.filter(([, text]) => text.includes('src/main.ts'));
    const unset = environment
      .trim()
      .split(' ')
      .flatMap((one) => starting.filter(([, text]) => !text.includes(one)).map(([file]) => `${file}: ${one}`));
    expect(unset).toEqual([]);
    expect(environment).not.toBe('');
  });

  test('alerts on metrics that there are', () => {
    const known = new Set<string>(Object.values(METRICS).map(({ name }) => name));
    const unknown = texts.flatMap(([file, text]) =>
      [...text.matchAll(/\blastwill_[a-z_]+\b/g)]
        .filter(([name]) => !known.has(name.replace(/_(bucket|sum|count)$/, '')))
        .map(([name]) => `${file}: ${name}`),
    );
    expect(unknown, 'an alert on nothing never rings').toEqual([]);
  });

  test('asks in no alert whether a counter stood still', () => {
    const asked = texts.flatMap(([file, text]) =>
      [...text.matchAll(/.*increase\(\S*\)+ == 0.*/g)].map(([line]) => `${file}: ${line.trim()}`),
    );
    expect(asked, 'of a series that has not begun there is nothing to compare: say what must not be, after `unless`').toEqual([]);
  });
});

describe('the reading itself', () => {
  test('blanks comments, strings and regular expressions, and keeps what a template computes', () => {
    const text = [
      "call('a // b'); // setTimeout",
      '/* Date.now',
      // § stands for $, which in a plain string looks like a mistake.
      'Date.now */ real(`text §{inner(`§{deep}`, "x")} text`)',
      'const r = /[/"]setTimeout/g.test(x) / 2;',
    ]
      .join('\n')
      .replaceAll('§', '$');
    const code = blank(text);
    expect(code.length).toBe(text.length);
    expect(code).not.toMatch(/setTimeout|Date|text|\bx"/);
    for (const kept of ['call(', 'real(', 'inner(', 'deep', '.test(x) / 2;']) expect(code).toContain(kept);
  });

  test('finds imports of every form', () => {
    const text = [
      "import a from './a.ts';",
      "import type {\n  B,\n} from '../b.ts';",
      "export { c } from './c.ts';",
      "const d = await import('./d.ts');",
      "import 'node:fs';",
      "new Worker(new URL('./e.ts', import.meta.url));",
    ].join('\n');
    expect(importsIn('src/x/y.ts', text).sort()).toEqual(['node:fs', 'src/b.ts', 'src/x/a.ts', 'src/x/c.ts', 'src/x/d.ts', 'src/x/e.ts']);
  });

  test('measures functions, methods and arrows', () => {
    const text = [
      'function a(',
      '  {',
      '    b,',
      '  }: B,',
      '): void {',
      '  c(() => {',
      '    d();',
      '  });',
      '}',
      'const e = {',
      '  f(g) {',
      '  },',
      '};',
    ];
    expect(functionsIn(text.join('\n'))).toEqual([
      { line: 1, length: 6 },
      { line: 6, length: 3 },
      { line: 11, length: 2 },
    ]);
  });
});

function sourcesUnder(folder: string): readonly Source[] {
  return readdirSync(path.join(ROOT, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.[jt]s$/.test(entry.name))
    .map((entry) => path.relative(ROOT, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'))
    .sort()
    .map((file) => {
      const text = readFileSync(path.join(ROOT, file), 'utf8');
      return { file, text, code: blank(text), imports: importsIn(file, text) };
    });
}

function lines(text: string): readonly string[] {
  return text.split('\n');
}

/** Our own files from the root, packages by name. A file that is started by its URL counts as imported. */
function importsIn(file: string, text: string): string[] {
  const forms = [
    /^(?:import|export)\s[^'";]*?\bfrom\s+'([^']+)'/gm,
    /^import\s+'([^']+)'/gm,
    /\bimport\('([^']+)'\)/g,
    /\bnew URL\('(\.[^']+\.[jt]s)'/g,
  ];
  const found = forms.flatMap((form) => [...text.matchAll(form)].map((match) => match[1] ?? ''));
  return [...new Set(found.map((target) => (target.startsWith('.') ? path.posix.join(path.posix.dirname(file), target) : target)))];
}

/** The first ring that leads from a file back to it. */
function ringThrough(start: string): string[] {
  const cameFrom = new Map<string, string>();
  const queue = [start];
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    for (const target of BY_FILE.get(file)?.imports ?? []) {
      if (target === start) return [ringOf(cameFrom, start, file)];
      if (!BY_FILE.has(target) || cameFrom.has(target)) continue;
      cameFrom.set(target, file);
      queue.push(target);
    }
  }
  return [];
}

function ringOf(cameFrom: ReadonlyMap<string, string>, start: string, last: string): string {
  const ring = [start];
  for (let file: string | undefined = last; file !== undefined && file !== start; file = cameFrom.get(file)) ring.push(file);
  return [...ring, start].reverse().join(' → ');
}

/**
 * Where each function with a body of several lines starts and how long it is, without the functions inside it: a factory reads
 * like a class. The formatter has put the closing brace below the start of the line with the opening one, so indentation is all
 * that has to be looked at.
 */
function functionsIn(code: string): { line: number; length: number }[] {
  const all = lines(code);
  const opens = (line: string): boolean =>
    /\bfunction\b/.test(line) ||
    /=> \(?\{$/.test(line) ||
    (/^\s*(async |static |get |set |#)*[\w$#]+(<.*>)?\(.*\{$/.test(line) && !/^\s*(if|for|while|switch|catch|return)\b/.test(line));
  const found = all.flatMap((line, index) => {
    if (!opens(line)) return [];
    const indent = line.length - line.trimStart().length;
    const rest = all.slice(index + 1);
    const end = rest.findIndex((later) => later.startsWith('}', indent) && later.slice(0, indent).trim() === '' && !later.endsWith('{'));
    return end === -1 ? [] : [{ from: index, to: index + 1 + end }];
  });
  return found.map(({ from, to }) => {
    const inner = found.filter((other) => other.from > from && other.to < to);
    const own = all.slice(from, to + 1).filter((_, at) => !inner.some((other) => from + at >= other.from && from + at <= other.to));
    return { line: from + 1, length: own.length };
  });
}

/** Blanks what is no code; a slash after a value divides, elsewhere it begins a regular expression. */
function blank(text: string): string {
  const pattern =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:\\[\s\S]|[^'\\\n])*'|"(?:\\[\s\S]|[^"\\\n])*"|(?<=(?:^|[=(,:[!&|?{};+*%<>~^-]|\breturn|\bcase)\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*|[`{}]|\$\{/gm;
  const out: string[] = [];
  // What the braces that are open belong to; the text of a template lies between its backquotes and its computed parts.
  const open: ('brace' | 'computed' | 'template')[] = [];
  let at = 0;
  const copyTo = (end: number): void => {
    const part = text.slice(at, end);
    out.push(open.at(-1) === 'template' ? spaces(part) : part);
    at = end;
  };
  while (at < text.length) {
    const inTemplate = open.at(-1) === 'template';
    const next = inTemplate ? /\\[\s\S]|`|\$\{/g : pattern;
    next.lastIndex = at;
    const match = next.exec(text);
    copyTo(match?.index ?? text.length);
    if (match === null) break;
    const [token] = match;
    at += token.length;
    if (inTemplate && token.startsWith('\\')) out.push(spaces(token));
    else if (token === '`') {
      if (inTemplate) open.pop();
      else open.push('template');
      out.push(token);
    } else if (token === '${' || token === '{') {
      open.push(token === '{' ? 'brace' : 'computed');
      out.push(token);
    } else if (token === '}') {
      open.pop();
      out.push(token);
    } else out.push(spaces(token));
  }
  return out.join('');
}

function spaces(text: string): string {
  return text.replace(/[^\n]/g, ' ');
}
