// With which settings both services come up: what one starts with, the other is to start with as well. And what they do with them.
import { API_KEY, API_SECRET, type Settings, type Stand } from './stand.ts';

/** The differences that are meant, each with its reason. */
export const INTENDED_SETTINGS = {
  'what is no URL': 'LIVEKIT_URL and the overrides must be URLs that can be called: else the first call would find out',
  'what is no server name':
    'an entry of LIVEKIT_FULL_ACCESS_HOMESERVERS that no server can have as its name would silently give nobody access',
  'contradictory overrides': 'a server name with two URLs has none',
  'trailing comma': 'an empty entry of a list is none',
  'several keys': 'LIVEKIT_KEY_FILE may hold several lines, as the file of the SFU does',
} as const;
export type SettingsDifference = keyof typeof INTENDED_SETTINGS;

export interface SettingsCase extends Settings {
  readonly name: string;
  readonly differs?: SettingsDifference;
}

const FILES = {
  key: 'file-key\n',
  secret: ' file-secret-of-at-least-32-characters \n',
  empty: '',
  pair: 'a-key: a-secret-of-at-least-32-characters\n',
  pairs: 'a-key: a-secret-of-at-least-32-characters\nanother: secret-of-at-least-32-characters\n',
  bad: 'no pair\n',
};
const NO_KEYS = { LIVEKIT_KEY: undefined, LIVEKIT_SECRET: undefined };

const one = (variable: string, values: readonly (string | undefined)[], differs?: SettingsDifference): SettingsCase[] => {
  return values.map((value) => {
    const name = `${variable}=${value ?? '(not set)'}`;
    return { name, env: { [variable]: value }, ...(differs === undefined ? {} : { differs }) };
  });
};
const several = (name: string, env: Settings['env'], differs?: SettingsDifference): SettingsCase => {
  return { name, env, files: FILES, ...(differs === undefined ? {} : { differs }) };
};

export const SETTINGS_CASES: readonly SettingsCase[] = [
  { name: 'the usual', env: {} },
  ...one('LIVEKIT_URL', [undefined, '']),
  several('production without LIVEKIT_URL', { NODE_ENV: 'production', LIVEKIT_URL: undefined }),
  ...one('LIVEKIT_URL', ['nonsense'], 'what is no URL'),
  ...one('LIVEKIT_KEY', [undefined, '', ' ', ' key ']),
  ...one('LIVEKIT_SECRET', [undefined, '', ' ']),
  several('production without homeservers', { NODE_ENV: 'production', LIVEKIT_FULL_ACCESS_HOMESERVERS: undefined }),
  ...one('LIVEKIT_FULL_ACCESS_HOMESERVERS', [undefined, '']),
  ...one('LIVEKIT_FULL_ACCESS_HOMESERVERS', ['*', ' a.example , b.example:8448 ', 'a b']),
  ...one('LIVEKIT_FULL_ACCESS_HOMESERVERS', ['https://a.example', ' , '], 'what is no server name'),
  several('key from a file and from its variable', { LIVEKIT_KEY_FROM_FILE: 'key' }),
  several('key from a file that is not there, and from its variable', { LIVEKIT_KEY_FROM_FILE: 'none' }),
  several('key from an empty file', { LIVEKIT_KEY: undefined, LIVEKIT_KEY_FROM_FILE: 'empty' }),
  several('secret from a file', { LIVEKIT_SECRET: undefined, LIVEKIT_SECRET_FROM_FILE: 'secret' }),
  several('secret from a file and from its variable', { LIVEKIT_SECRET_FROM_FILE: 'secret' }),
  several('key file', { ...NO_KEYS, LIVEKIT_KEY_FILE: 'pair' }),
  several('key file and all others', { LIVEKIT_KEY_FILE: 'pair', LIVEKIT_KEY_FROM_FILE: 'key', LIVEKIT_SECRET_FROM_FILE: 'secret' }),
  several('key file that is not there', { LIVEKIT_KEY_FILE: 'none' }),
  several('key file without a pair', { LIVEKIT_KEY_FILE: 'bad' }),
  several('empty key file', { ...NO_KEYS, LIVEKIT_KEY_FILE: 'empty' }),
  several('key file of two', { ...NO_KEYS, LIVEKIT_KEY_FILE: 'pairs' }, 'several keys'),
  ...one('LIVEKIT_JWT_BIND', ['nonsense', ':99999', '127.0.0.1', ':PORT']),
  several('port', { LIVEKIT_JWT_BIND: undefined, LIVEKIT_JWT_PORT: 'PORT' }),
  several('port, and an empty address', { LIVEKIT_JWT_BIND: '', LIVEKIT_JWT_PORT: 'PORT' }),
  several('port and address', { LIVEKIT_JWT_PORT: 'PORT' }),
  several('port that is none', { LIVEKIT_JWT_BIND: undefined, LIVEKIT_JWT_PORT: 'nonsense' }),
  ...one('LIVEKIT_INSECURE_SKIP_VERIFY_TLS', [undefined, 'true']),
  ...one('LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS', ['0', '30', '7200', '999999999', '-1', '1.5', ' 30 ', 'nonsense']),
  ...one('LIVEKIT_LOG_LEVEL', ['', 'DEBUG', 'Warn', 'warning', 'nonsense']),
  ...one('LIVEKIT_CS_API_URL_OVERRIDES', [undefined, '', ' a.example = http://a:8008 ', 'a.example', '=http://a', 'a.example=']),
  ...one('LIVEKIT_CS_API_URL_OVERRIDES', ['a.example=nonsense', 'a.example=ftp://a'], 'what is no URL'),
  ...one('LIVEKIT_CS_API_URL_OVERRIDES', ['a.example=http://a,a.example=http://b'], 'contradictory overrides'),
  ...one('LIVEKIT_CS_API_URL_OVERRIDES', ['a.example=http://a,'], 'trailing comma'),
  ...one('LIVEKIT_CAN_UPDATE_OWN_METADATA', ['', 'true', 'false', 'nonsense']),
];

/** The differences in what a setting does that are meant, each with its reason. */
export const INTENDED_EFFECTS = {
  'all, and names': '* beside names is all the same for every homeserver: the names may have private addresses, too',
  'own metadata': 'LIVEKIT_CAN_UPDATE_OWN_METADATA=false is heard',
} as const;
export type EffectDifference = keyof typeof INTENDED_EFFECTS;

export interface EffectCase extends Settings {
  readonly name: string;
  readonly differs?: EffectDifference;
}

/** Settings with which both come up; what they answer is compared. */
export function effectCases({ home, guest, lost, unknownSfu }: Stand): readonly EffectCase[] {
  const access = (listed: string, differs?: EffectDifference): EffectCase => {
    const name = `LIVEKIT_FULL_ACCESS_HOMESERVERS=${JSON.stringify(listed)}`;
    return { name, env: { LIVEKIT_FULL_ACCESS_HOMESERVERS: listed }, ...(differs === undefined ? {} : { differs }) };
  };
  const files = { key: ` ${API_KEY} \r\n`, secret: `${API_SECRET}\n`, pair: `\n ${API_KEY} : ${API_SECRET}\r\n` };
  const other = { LIVEKIT_KEY: 'other', LIVEKIT_SECRET: 'another-secret-of-at-least-32-characters' };
  const fromFiles = { LIVEKIT_KEY_FROM_FILE: 'key', LIVEKIT_SECRET_FROM_FILE: 'secret' };
  return [
    ...['*', ' * ', `${home},${guest}`, `${home} ${guest}`, `,${guest}\n\t${home},`, home.toUpperCase()].map((listed) => access(listed)),
    ...[`${home},*`, `* ${lost}`].map((listed) => access(listed, 'all, and names')),
    { name: 'key and secret from files', env: { ...other, ...fromFiles }, files },
    { name: 'key file', env: { ...other, LIVEKIT_KEY_FILE: 'pair' }, files },
    { name: 'an override with spaces', env: { LIVEKIT_CS_API_URL_OVERRIDES: ` ${lost} = http://127.0.0.1:1/ ` } },
    { name: 'TLS that is nearly insecure', env: { LIVEKIT_INSECURE_SKIP_VERIFY_TLS: 'yes_i_know_what_i_am_doing' } },
    { name: 'an SFU with an unknown certificate', env: { LIVEKIT_URL: unknownSfu } },
    {
      name: 'an SFU with an unknown certificate, and without the switch',
      env: { LIVEKIT_URL: unknownSfu, LIVEKIT_INSECURE_SKIP_VERIFY_TLS: undefined },
    },
    { name: 'own metadata: no', env: { LIVEKIT_CAN_UPDATE_OWN_METADATA: 'no' } },
    { name: 'own metadata: false', env: { LIVEKIT_CAN_UPDATE_OWN_METADATA: 'false' }, differs: 'own metadata' },
  ];
}
