// What clients, proxies and JSON writers of other make put on the wire: spellings of a path, headers, bodies of one endpoint at another.
import { gzipSync } from 'node:zlib';
import { type Case, DELEGATION, type Difference, endpoints } from './cases.ts';
import type { Stand, Wanted } from './stand.ts';

const ORIGIN = { origin: 'https://call.example.org' };

export function wireCases(stand: Stand): readonly Case[] {
  return [...paths(stand), ...headers(stand), ...elsewhere(stand), ...texts(stand), ...numbers(stand), ...again(stand)];
}

function paths(stand: Stand): Case[] {
  const { token } = endpoints(stand);
  const spelt: [string, Difference?][] = [
    ['/get%5Ftoken'],
    ['/get_token?%zz'],
    ['/get_token?a=1&a=2#'],
    ['/get_token;x=1', 'operational pages'],
    ['/get_token/', 'operational pages'],
    ['/GET_TOKEN', 'operational pages'],
    ['/sfu%2Fget', 'operational pages'],
    ['/./get_token', 'dot segments'],
    ['/x/../get_token', 'dot segments'],
  ];
  return spelt.map(([path, differs]) => ({ name: `POST ${path}`, wanted: { ...token(), path }, ...(differs && { differs }) }));
}

function headers(stand: Stand): Case[] {
  const { token, legacy, post } = endpoints(stand);
  const zipped = gzipSync(token().body as string);
  const sent: [string, Wanted][] = [
    ['a page without an origin', { ...token(), headers: { origin: 'null' } }],
    ['an access token', { ...token(), headers: { ...ORIGIN, authorization: 'Bearer x' } }],
    ['cookies', { ...legacy(), headers: { ...ORIGIN, cookie: 'x'.repeat(20_000) } }],
    ['another method in a header', { ...token(), headers: { 'x-http-method-override': 'PUT' } }],
    ['whoever wants XML', { ...token(), headers: { accept: 'application/xml', 'accept-encoding': 'gzip, br' } }],
    ['a body that is packed', post('/get_token', zipped, { 'content-encoding': 'gzip' })],
    ['a form', { ...token(), headers: { 'content-type': 'application/x-www-form-urlencoded' } }],
    ['QUERY', { ...token(), method: 'QUERY' }],
    ['GET with a body', { ...token(), method: 'GET' }],
    ['preflight with a body', { ...token(), method: 'OPTIONS' }],
    ['preflight of what is not allowed', preflight('/delegate_delayed_leave', 'DELETE', 'authorization,x-foo')],
    ['preflight of a page without an origin', { ...preflight('/sfu/get', 'POST', 'content-type') }],
  ];
  return sent.map(([name, wanted]) => ({ name, wanted }));
}

function preflight(path: string, method: string, names: string): Wanted {
  const asked = { 'access-control-request-method': method, 'access-control-request-headers': names };
  return { method: 'OPTIONS', path, headers: { origin: 'null', ...asked } };
}

/** The body of one endpoint at another. */
function elsewhere(stand: Stand): Case[] {
  const { memberBody, legacyBody, post } = endpoints(stand);
  const bodies = { newer: { ...memberBody(), ...DELEGATION }, older: { ...legacyBody(), ...DELEGATION } };
  const all = { ...bodies.newer, ...bodies.older };
  return [
    { name: 'a newer body at the older endpoint', wanted: post('/sfu/get', JSON.stringify(bodies.newer)) },
    { name: 'an older body at the newer endpoint', wanted: post('/get_token', JSON.stringify(bodies.older)) },
    { name: 'an older body with the delegation alone', wanted: post('/delegate_delayed_leave', JSON.stringify(bodies.older)) },
    ...['/get_token', '/sfu/get', '/delegate_delayed_leave'].flatMap((path) => [
      { name: `both bodies at ${path}`, wanted: post(path, JSON.stringify(all)) },
      { name: `an empty body at ${path}`, wanted: post(path, '') },
    ]),
  ];
}

function texts(stand: Stand): Case[] {
  const { post, token } = endpoints(stand);
  const full = token().body as string;
  const written: [string, string, Difference?][] = [
    ['a tab before it', `\t${full}`],
    ['a vertical tab before it', `\v${full}`],
    ['a no-break space before it', `\u00a0${full}`],
    ['a raw tab in a text', full.replace('m.call#', 'm.call\t#')],
    ['a field with an escape', full.replace('"room_id"', '"room\\u005fid"')],
    ['a trailing comma', full.replace(/}$/, ',}')],
    ['a comment behind it', `${full} // x`, 'one JSON text'],
    ['a field with a letter that is folded', full.replace('openid_token', 'openid_to\u212aen'), 'one JSON text'],
  ];
  return written.map(([name, text, differs]) => ({ name, wanted: post('/get_token', text), ...(differs && { differs }) }));
}

function numbers(stand: Stand): Case[] {
  const { post, token } = endpoints(stand);
  const full = token().body as string;
  const written: [string, Difference?][] = [
    ...['0', '-1', '03600', '+1', '.5', 'NaN', 'Infinity', '9223372036854775807', '-9223372036854775808', '1e30'].map(
      (number): [string] => [number],
    ),
    ['3600.0', 'whole numbers'],
    ['36e2', 'whole numbers'],
  ];
  return written.map(([number, differs]) => ({
    name: `a token that expires in ${number}`,
    wanted: post('/get_token', full.replace('"expires_in":3600', `"expires_in":${number}`)),
    ...(differs && { differs }),
  }));
}

/** What one client asks one after the other. */
function again(stand: Stand): Case[] {
  const { token, legacy, leave } = endpoints(stand);
  return [
    { name: 'a delegation', wanted: token(DELEGATION) },
    { name: 'the same again', wanted: token(DELEGATION) },
    { name: 'the same by the other endpoint', wanted: leave() },
    { name: 'the same with another delay', wanted: token({ ...DELEGATION, delay_timeout: 10_000 }) },
    { name: 'a newer one, older client', wanted: legacy({ ...DELEGATION, delay_id: 'delay_2' }) },
    { name: 'the older one again', wanted: legacy(DELEGATION) },
    { name: 'a token without one', wanted: token() },
  ];
}
