// Why a call to a homeserver did not do what it was for, as logs, metrics and alarms name it, and what an operator can do where no call is
// possible at all.

export type HomeserverFailure =
  /** Not answered in time. */
  | 'timeout'
  /** No connection, or one that was closed before the answer. */
  | 'refused'
  | 'status_5xx'
  /** An answer that means nothing to us: a proxy's page, a body that is too large or no JSON, what is no HTTP or TLS. */
  | 'garbage'
  /** An answer that sends us elsewhere. It is not followed: what is called is a secret, and is told to nobody else. */
  | 'redirect'
  /** 429. */
  | 'limited'
  /** 401. */
  | 'unauthorized'
  /** 403. */
  | 'forbidden'
  /** Its address may not be called (address.ts). */
  | 'address'
  /** Its certificate is not trusted. */
  | 'certificate'
  /** It knows none of our ways to manage delayed events (dialect.ts), or does not know this endpoint. */
  | 'dialect';

/** For faults that stay until the operator changes something; told wherever one is met. */
export const ADVICE = {
  address: 'its address may not be called: name it in LIVEKIT_FULL_ACCESS_HOMESERVERS, or set LASTWILL_ALLOW_PRIVATE_ADDRESSES',
  certificate:
    'its certificate has run out, is for another name, or is of no authority trusted here (NODE_EXTRA_CA_CERTS names one of your own)',
  redirect:
    'its base URL answers with redirects, which are not followed: LIVEKIT_CS_API_URL_OVERRIDES or its .well-known has to name the URL that they lead to',
} as const satisfies Partial<Record<HomeserverFailure, string>>;
