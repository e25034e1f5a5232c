// Kubernetes gives every container variables about the Services around it, made of their names (as Docker's old links did). A Service named
// livekit-jwt thereby sets LIVEKIT_JWT_PORT to its own address; one named livekit or lastwill sets what looks like our settings misspelt.
import { type Env, rank } from './reader.ts';

const LINK = /_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$/;
const ADDRESS = /^(?:tcp|udp|sctp):\/\//;

/** The environment without such variables; `note` hears of those that have the name of a setting. */
export function withoutServiceLinks(env: Env, note: (text: string) => void): Env {
  const own = Object.entries(env).filter(([name, value]) => {
    const isLink = LINK.test(name) || (name.endsWith('_PORT') && ADDRESS.test(value ?? ''));
    if (isLink && rank(name) >= 0) {
      note(
        `${name} is the address of a Service of that name, and not the setting: it is ignored (enableServiceLinks: false keeps it away).`,
      );
    }
    return !isLink;
  });
  return Object.fromEntries(own);
}
