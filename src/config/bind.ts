// The address to listen on, as LIVEKIT_JWT_BIND has it.

export interface Bind {
  /** Empty: every interface. An IPv6 address has no brackets. */
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
}

/** `:port`, `host:port` or `[address]:port`; null: it is none of these. */
export function parseBind(text: string): Bind | null {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]*)):(\d{1,5})$/.exec(text);
  if (match === null) return null;
  const [, address, name = '', digits] = match;
  const port = Number(digits);
  const isAddress = address === undefined || URL.canParse(`http://[${address}]`);
  return isAddress && port <= 65_535 ? { host: address ?? name, port } : null;
}
