// The client around Element Call: a page with nothing but the widget in it, which grants it everything and does what it asks.
import {
  ClientEvent,
  createClient,
  type IContent,
  type MatrixClient,
  MatrixError,
  type MatrixEvent,
  RoomStateEvent,
  SyncState,
} from 'matrix-js-sdk';
import {
  type Capability,
  ClientWidgetApi,
  type IOpenIDUpdate,
  type IRoomEvent,
  type IRtcTransportsResult,
  type ISendDelayedEventDetails,
  type ISendEventDetails,
  type IWidgetApiErrorResponseDataDetails,
  type IWidgetApiRequest,
  MatrixWidgetType,
  OpenIDRequestState,
  type SimpleObservable,
  Widget,
  WidgetDriver,
} from 'matrix-widget-api';
import type { HostOrder, HostReport } from './contract.ts';

const WIDGET = 'element-call';
const order = JSON.parse(decodeURIComponent(location.hash.slice(1))) as HostOrder;
const report: HostReport = { steps: [], failures: [], delays: [] };
(window as unknown as { report: HostReport }).report = report;
addEventListener('unhandledrejection', ({ reason }) => void report.failures.push(`unhandled: ${String(reason)}`));

type Path = readonly [first: string, ...rest: string[]];

/** Plain client-server calls: what the widget asks for goes to the homeserver as it is. */
class Driver extends WidgetDriver {
  readonly #client: MatrixClient;

  constructor(client: MatrixClient) {
    super();
    this.#client = client;
  }

  override async validateCapabilities(requested: Set<Capability>): Promise<Set<Capability>> {
    return requested;
  }

  override async sendEvent(type: string, content: unknown, stateKey: string | null = null): Promise<ISendEventDetails> {
    const answer = await this.#send(type, content, stateKey, {});
    return { roomId: order.room, eventId: String(answer.event_id) };
  }

  override async sendStickyEvent(stickyMs: number, type: string, content: unknown): Promise<ISendEventDetails> {
    const answer = await this.#send(type, content, null, { 'org.matrix.msc4354.sticky_duration_ms': String(stickyMs) });
    return { roomId: order.room, eventId: String(answer.event_id) };
  }

  override sendDelayedEvent(
    delayMs: number,
    type: string,
    content: unknown,
    stateKey: string | null = null,
  ): Promise<ISendDelayedEventDetails> {
    return this.#schedule(delayMs, type, content, stateKey, {});
  }

  override sendDelayedStickyEvent(delayMs: number, stickyMs: number, type: string, content: unknown): Promise<ISendDelayedEventDetails> {
    return this.#schedule(delayMs, type, content, null, { 'org.matrix.msc4354.sticky_duration_ms': String(stickyMs) });
  }

  override async cancelScheduledDelayedEvent(delayId: string): Promise<void> {
    await this.#client._unstable_cancelScheduledDelayedEvent(delayId);
  }

  override async restartScheduledDelayedEvent(delayId: string): Promise<void> {
    await this.#client._unstable_restartScheduledDelayedEvent(delayId);
  }

  override async sendScheduledDelayedEvent(delayId: string): Promise<void> {
    await this.#client._unstable_sendScheduledDelayedEvent(delayId);
  }

  override async sendToDevice(type: string, _encrypted: boolean, messages: Record<string, Record<string, object>>): Promise<void> {
    await this.#put(['sendToDevice', type, this.#client.makeTxnId()], {}, { messages });
  }

  override async readRoomTimeline(): Promise<IRoomEvent[]> {
    return [];
  }

  override async readRoomState(room: string, type: string, stateKey: string | undefined): Promise<IRoomEvent[]> {
    const state = this.#client.getRoom(room)?.currentState;
    if (state === undefined) return [];
    if (stateKey === undefined) return state.getStateEvents(type).map(raw);
    const event = state.getStateEvents(type, stateKey);
    return event === null ? [] : [raw(event)];
  }

  override async readStickyEvents(room: string): Promise<IRoomEvent[]> {
    return [...(this.#client.getRoom(room)?._unstable_getStickyEvents() ?? [])].map(raw);
  }

  override askOpenID(observer: SimpleObservable<IOpenIDUpdate>): void {
    this.#client
      .getOpenIdToken()
      .then((token) => observer.update({ state: OpenIDRequestState.Allowed, token }))
      .catch((error: unknown) => report.failures.push(`OpenID token: ${String(error)}`));
  }

  override async getRtcTransports(): Promise<IRtcTransportsResult> {
    return { rtc_transports: await this.#client._unstable_getRTCTransports() };
  }

  override getKnownRooms(): string[] {
    return [order.room];
  }

  /** A homeserver's refusal reaches the widget as it was. */
  override processError(error: unknown): IWidgetApiErrorResponseDataDetails | undefined {
    return error instanceof MatrixError ? { matrix_api_error: error.asWidgetApiErrorData() } : undefined;
  }

  async #schedule(
    delayMs: number,
    type: string,
    content: unknown,
    stateKey: string | null,
    query: Record<string, string>,
  ): Promise<ISendDelayedEventDetails> {
    const answer = await this.#send(type, content, stateKey, { ...query, 'org.matrix.msc4140.delay': String(delayMs) });
    const delayId = String(answer.delay_id);
    report.delays.push({ delayId, delayMs });
    return { roomId: order.room, delayId };
  }

  #send(type: string, content: unknown, stateKey: string | null, query: Record<string, string>): Promise<IContent> {
    const path: Path =
      stateKey === null ? ['rooms', order.room, 'send', type, this.#client.makeTxnId()] : ['rooms', order.room, 'state', type, stateKey];
    return this.#put(path, query, content);
  }

  async #put(path: Path, query: Record<string, string>, content: unknown): Promise<IContent> {
    const url = `${order.credentials.baseUrl}/_matrix/client/v3/${path.map(encodeURIComponent).join('/')}?${new URLSearchParams(query)}`;
    const response = await fetch(url, {
      method: 'PUT',
      headers: { authorization: `Bearer ${order.credentials.accessToken}` },
      body: JSON.stringify(content),
    });
    const answer = (await response.json()) as IContent;
    if (!response.ok) throw new MatrixError(answer, response.status, url);
    return answer;
  }
}

const raw = (event: MatrixEvent): IRoomEvent => event.getEffectiveEvent() as IRoomEvent;

async function synced(client: MatrixClient): Promise<void> {
  const ready = new Promise<void>((done) => {
    client.on(ClientEvent.Sync, (state) => {
      if (state === SyncState.Prepared) done();
    });
  });
  await client.startClient({ initialSyncLimit: 20 });
  await ready;
}

function frame(): HTMLIFrameElement {
  const { userId, deviceId, baseUrl } = order.credentials;
  const url = new URL(order.elementCallUrl);
  const parameters = new URLSearchParams({
    widgetId: WIDGET,
    parentUrl: location.href.split('#')[0] ?? '',
    userId,
    deviceId,
    baseUrl,
    roomId: order.room,
    lang: 'en',
    theme: 'dark',
    intent: 'join_existing',
    skipLobby: 'true',
    confineToRoom: 'true',
    appPrompt: 'false',
    perParticipantE2EE: 'false',
  });
  url.hash = `?${parameters}`;
  const iframe = document.createElement('iframe');
  iframe.allow = 'camera; microphone; display-capture; autoplay; fullscreen';
  iframe.style.cssText = 'position: fixed; inset: 0; width: 100%; height: 100%; border: 0';
  iframe.src = url.href;
  return iframe;
}

async function host(): Promise<void> {
  const client = createClient({ ...order.credentials, useAuthorizationHeader: true });
  await synced(client);
  const iframe = frame();
  const widget = new Widget({
    id: WIDGET,
    type: MatrixWidgetType.Custom,
    url: iframe.src,
    creatorUserId: order.credentials.userId,
    waitForIframeLoad: false,
  });
  document.body.append(iframe);
  const api = new ClientWidgetApi(widget, iframe, new Driver(client));
  api.setViewedRoomId(order.room);
  api.once('ready', () => report.steps.push('ready'));
  for (const action of ['io.element.join', 'im.vector.hangup', 'io.element.close', 'io.element.device_mute', 'set_always_on_screen']) {
    api.on(`action:${action}`, (event: CustomEvent<IWidgetApiRequest>) => {
      event.preventDefault();
      report.steps.push(action);
      api.transport.reply(event.detail, { success: true });
    });
  }
  const failed = (error: unknown): void => void report.failures.push(`feeding the widget: ${String(error)}`);
  client.on(ClientEvent.Event, (event) => void api.feedEvent(raw(event)).catch(failed));
  client.on(RoomStateEvent.Events, (event) => void api.feedStateUpdate(raw(event)).catch(failed));
  client.on(ClientEvent.ReceivedToDeviceMessage, ({ message }) => void api.feedToDevice(message, false).catch(failed));
}

host().catch((error: unknown) => report.failures.push(`hosting: ${String(error)}`));
