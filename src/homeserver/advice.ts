// What an operator can do about a homeserver that can't be called: it is told wherever one is.
export const ADVICE = {
  address: 'its address may not be called: name it in LIVEKIT_FULL_ACCESS_HOMESERVERS, or set LASTWILL_ALLOW_PRIVATE_ADDRESSES',
  certificate:
    'its certificate has run out, is for another name, or is of no authority trusted here (NODE_EXTRA_CA_CERTS names one of your own)',
} as const;
