// Every environment variable that lastwill reads, in one table: the README and the checks of config.ts are made of it.

export interface Setting {
  readonly name: string;
  /** For a reader; an empty text means unset. */
  readonly default: string;
  readonly help: string;
  /** Never shown. */
  readonly secret: boolean;
  /** Names a file. What does not look like a path is not shown: it may be the secret itself, in the wrong variable. */
  readonly path: boolean;
}

/** The switch counts with this value only: nobody turns checking off by accident. */
export const INSECURE_TLS = 'YES_I_KNOW_WHAT_I_AM_DOING';
export const SHORTEST_STORE_KEY = 16;
export const LONGEST_WAIT_MS = 600_000;
/** The most that a delegation waits for its participant, whatever the settings say. */
export const LONGEST_CONNECT_MS = 300_000;
export const LONGEST_INTERVAL_MS = 3_600_000;

const WAIT = ` (0 to ${LONGEST_WAIT_MS})`;

type Row = readonly [name: string, byDefault: string, help: string, kind?: 'secret' | 'path'];
const ROWS: readonly Row[] = [
  [
    'NODE_ENV',
    '`development` with nothing of a deployment set; else `production`',
    '`production` asks for the SFU, its key and homeservers, and counts as soon as one of these, another secret or file is set; `development` takes what is missing from `livekit-server --dev`.',
  ],
  ['LIVEKIT_URL', '`ws://127.0.0.1:7880` (*)', 'The SFU: ws, wss, http or https.'],
  ['LIVEKIT_KEY', '`devkey` (*)', 'API key of the SFU.', 'secret'],
  ['LIVEKIT_KEY_FROM_FILE', '', 'A file with the API key; goes before LIVEKIT_KEY.', 'path'],
  ['LIVEKIT_SECRET', '`secret` (*)', 'Secret of that API key.', 'secret'],
  ['LIVEKIT_SECRET_FROM_FILE', '', 'A file with the secret; goes before LIVEKIT_SECRET.', 'path'],
  ['LIVEKIT_KEY_FILE', '', 'A file of `key: secret` lines; goes before the four above. The first signs, all verify.', 'path'],
  ['LIVEKIT_JWT_BIND', '`127.0.0.1:8080`; in production `:8080`', 'Where to listen: `:port`, `host:port` or `[address]:port`.'],
  ['LIVEKIT_JWT_PORT', '', 'Deprecated: the port only. Not together with LIVEKIT_JWT_BIND.'],
  [
    'LIVEKIT_FULL_ACCESS_HOMESERVERS',
    '`*` (*)',
    'Homeservers whose users may have rooms made and leaves kept: server names separated by commas or spaces; `*`, alone or beside them, for all.',
  ],
  ['LASTWILL_RESTRICTED_CAN_PUBLISH', '`true`', '`false`: users of other homeservers may join and listen only.'],
  ['LIVEKIT_CAN_UPDATE_OWN_METADATA', '`true`', '`false`: participants may not change their own name and metadata.'],
  ['LIVEKIT_CS_API_URL_OVERRIDES', '', 'Client-server API by server name, instead of .well-known: `name=url,…`.'],
  [
    'LIVEKIT_INSECURE_SKIP_VERIFY_TLS',
    '',
    `\`${INSECURE_TLS}\`, to the letter, accepts any certificate of homeservers and of the SFU, and any address of a homeserver.`,
  ],
  ['LASTWILL_ALLOW_PRIVATE_ADDRESSES', '`false`', '`true`: any homeserver may have a private or loopback address.'],
  [
    'LIVEKIT_AS_TOKEN',
    '',
    'lastwill as an application service of LIVEKIT_HS_SERVER_NAME: the token that goes with calls about its delayed events and rooms.',
    'secret',
  ],
  ['LIVEKIT_HS_TOKEN', '', 'The token by which that homeserver proves itself when it passes requests on to lastwill.', 'secret'],
  ['LIVEKIT_HS_SERVER_NAME', '', 'The server name of that homeserver.'],
  [
    'LIVEKIT_AS_REGISTRATION_FILE',
    '',
    'Its registration file (`npm run registration` makes one); goes before the two tokens, and tells the server name if its namespaces do.',
    'path',
  ],
  [
    'LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS',
    '`60`',
    'How often those who got their token by that homeserver are looked for in their Matrix rooms, to be removed from the SFU if they left; `0`: never.',
  ],
  ['LASTWILL_DATA_DIR', '`./data`', 'The folder of the SQLite file.'],
  ['LASTWILL_STORE_KEY', '', `Seals tokens at rest; at least ${SHORTEST_STORE_KEY} characters.`, 'secret'],
  ['LASTWILL_STORE_KEY_FROM_FILE', '', 'A file with that key; goes before LASTWILL_STORE_KEY.', 'path'],
  ['LASTWILL_PRESENCE_INTERVAL_MS', '`30000`', `How often the SFU is asked who is there (1000 to ${LONGEST_INTERVAL_MS}).`],
  ['LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS', '', 'The same in seconds, under its older name.'],
  ['LASTWILL_CONNECT_TIMEOUT_MS', '`300000`', `How long a participant may take to connect (1000 to ${LONGEST_CONNECT_MS}).`],
  ['LASTWILL_WAIT_LEFT_MS', '`1000`', `How long one who left may take to be back${WAIT}.`],
  ['LASTWILL_WAIT_LOST_MS', '`1000`', `The same for one whose connection was lost${WAIT}.`],
  ['LASTWILL_WAIT_REPLACED_MS', '`3000`', `How long a session that replaced another may take to show${WAIT}.`],
  ['LASTWILL_WAIT_SFU_DOWN_MS', '`20000`', `How long all may take to be back after the SFU stopped${WAIT}.`],
  ['LASTWILL_WAIT_ABORTED_MS', '`30000`', `How long the next attempt may take after an aborted connection${WAIT}.`],
  ['LASTWILL_WAIT_MISSING_MS', '`4000`', `How long an absence known from a list only waits for a second list${WAIT}.`],
  ['LIVEKIT_LOG_LEVEL', '`info`', 'debug, info, warn (or warning) or error, in any case.'],
  [
    'LIVEKIT_REDIS_URL',
    '',
    'Redis (7 or later) or Valkey (7.2 or later): delegations are kept there, for any number of replicas, instead of in the folder. Jobs of lk-jwt-service there are taken over at start.',
    'secret',
  ],
  ['LIVEKIT_REDIS_PASSWORD', '', 'The password for it, if the URL has none.', 'secret'],
  ['LASTWILL_REDIS_WAIT', '`0`', 'How many replicas of Redis must have a write before it is answered (0 to 10).'],
  [
    'LASTWILL_TAKEOVER_REMOVE',
    '`false`',
    '`true`: jobs that were taken over are removed there; without it they stay, which is the way back.',
  ],
];

export const SETTINGS: readonly Setting[] = ROWS.map(([name, byDefault, help, kind]) => {
  return { name, default: byDefault, help, secret: kind === 'secret', path: kind === 'path' };
});

const NOTE = '(*) in development; production has no default and asks for it. Names that end in _MS are milliseconds.';

export const USAGE = `Usage:
  npm start                     runs the service; its settings are environment variables
  npm start -- --help           lists them
  npm run registration -- …     makes a registration file, for lastwill as an application service
  npm run store -- copy …       moves what is stored to or from Redis, or seals it with another key`;

/** To somebody who gives an argument that is none; it is not repeated, for it may be a secret. */
export const NO_SUCH_ARGUMENT = `lastwill takes no such argument: its settings are environment variables.\n${USAGE}`;

/** The answer to --help. */
export function helpText(): string {
  const lines = SETTINGS.map(({ name, default: value, help }) => {
    const plain = value.replaceAll('`', '');
    return `  ${name}${plain === '' ? '' : ` [${plain}]`}\n      ${help.replaceAll('`', '')}`;
  });
  return [
    'lastwill: the sidecar of a LiveKit SFU that sends the delayed leave of a MatrixRTC member when it is gone from the SFU.',
    USAGE,
    'Settings:',
    ...lines,
    NOTE,
  ].join('\n');
}

/** The table of the README, made of SETTINGS. */
export function settingsTable(): string {
  const rows = SETTINGS.map(({ name, default: value, help }) => `| \`${name}\` | ${value === '' ? '–' : value} | ${help} |`);
  return [NOTE, '', '| Variable | Default | Meaning |', '|---|---|---|', ...rows].join('\n');
}
