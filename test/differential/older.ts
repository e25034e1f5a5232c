// lk-jwt-service 0.5.0 and before are of an older generation: they take no delegations. How they differ by that from the generation whose
// API this is, each with its reason; the README tells operators the same.
import { isDeepStrictEqual } from 'node:util';
import type { Answered, Running, Wanted } from './stand.ts';

export const OLDER = {
  'no delegations': 'it knows neither the endpoints nor the fields nor the settings',
  'own metadata': 'its tokens do not say that participants may change their own metadata',
  'errors of older clients': '/sfu/get answers M_BAD_JSON to what is no request, and 500 M_LOOKUP_FAILED where the user is not proven',
} as const;
export type OlderDifference = keyof typeof OLDER;

/** It has no such page, where a service that takes delegations answers the same question with 400. */
export async function isOlder(service: Running): Promise<boolean> {
  return (await service.ask({ method: 'POST', path: '/delegate_delayed_leave' })).status === 404;
}

const LATER_PATHS = ['/delegate_delayed_leave', '/sfu_webhook'];
const LATER_SETTINGS = /^LIVEKIT_(SANITY_CHECK_INTERVAL_SECONDS|CS_API_URL_OVERRIDES)/;

/** Null: the generation does not explain it. */
export function olderDifference({ path, body = '' }: Wanted, theirs: Answered, ours: Answered): OlderDifference | null {
  if (LATER_PATHS.includes(path) && theirs.status === 404) return 'no delegations';
  if (body.includes('"delay_')) return 'no delegations';
  if (isDeepStrictEqual(theirs, withoutOwnMetadata(ours))) return 'own metadata';
  const codes = [theirs, ours].map(({ status, body: said }) => `${status} ${(said as { errcode?: string }).errcode}`).join(', ');
  const older = ['400 M_BAD_JSON, 400 M_NOT_JSON', '500 M_LOOKUP_FAILED, 401 M_UNAUTHORIZED'].includes(codes);
  return path === '/sfu/get' && older ? 'errors of older clients' : null;
}

/** A setting that it does not know starts it, whatever is in it. */
export function isLaterSetting(name: string): boolean {
  return LATER_SETTINGS.test(name);
}

function withoutOwnMetadata(answered: Answered): unknown {
  return JSON.parse(JSON.stringify(answered, (name, value: unknown) => (name === 'canUpdateOwnMetadata' ? undefined : value)));
}
