// The picture in the documentation: Element Call with two people in a call whose tokens and delegations go through lastwill.
// npm run screenshot writes deploy/element-call.png.
import { join } from 'node:path';
import { register } from '../stack/homeserver.ts';
import { repositoryDir, sleep } from '../stack/processes.ts';
import type { Credentials } from './page/contract.ts';
import { Chromium } from './stack/chromium.ts';
import { noChromium } from './stack/chromium-binary.ts';
import { ElementCall } from './stack/element-call.ts';
import { ObservedRoom } from './stack/observed-room.ts';
import { startCall } from './stack/shared-call.ts';

if (noChromium !== undefined) throw new Error(noChromium);

async function person(homeserverUrl: string, name: string): Promise<Credentials> {
  const credentials = await register(homeserverUrl, name.toLowerCase());
  const response = await fetch(`${homeserverUrl}/_matrix/client/v3/profile/${encodeURIComponent(credentials.userId)}/displayname`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${credentials.accessToken}` },
    body: JSON.stringify({ displayname: name }),
  });
  if (!response.ok) throw new Error(`naming ${name}: ${response.status}`);
  return credentials;
}

const { call, stop } = await startCall('');
const browsers: Chromium[] = [];
try {
  const room = await ObservedRoom.create(call.homeserverUrl);
  const people = await Promise.all(['Alice', 'Bob'].map((name) => person(call.homeserverUrl, name)));
  for (const credentials of people) {
    await room.admit(credentials);
    const chromium = await Chromium.start();
    browsers.push(chromium);
    const elementCall = await ElementCall.open(chromium.page, call, credentials, room.id);
    await elementCall.joined();
    await elementCall.delegated();
  }
  const [alice] = browsers;
  const both = alice?.page.frameLocator('iframe').getByTestId('videoTile');
  await both?.nth(people.length - 1).waitFor();
  // The first frames of the other's video, and the layout that moves to its place.
  await sleep(4_000);
  const path = join(repositoryDir, 'deploy/element-call.png');
  await alice?.page.screenshot({ path });
  console.log(`written: ${path}`);
  room.watcher.stop();
} finally {
  await Promise.all(browsers.map((browser) => browser.end()));
  await stop();
}
