// Element Call in its widget, and what goes over the wire between it and the service.
import type { Page, Request } from 'playwright-core';
import { eventually } from '../../stack/processes.ts';
import type { Credentials, HostOrder, HostReport } from '../page/contract.ts';
import type { Seat } from './caller.ts';
import type { SharedCall } from './shared-call.ts';

const JOINING_MS = 60_000;

/** A POST to the service, answered. */
export interface Exchange {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>> | null;
  readonly authorized: boolean;
  readonly status: number;
  readonly answer: string;
  readonly anyOrigin: boolean;
}

export class ElementCall {
  readonly exchanges: Exchange[] = [];
  readonly page: Page;
  readonly #call: SharedCall;
  readonly #faults: string[] = [];

  private constructor(page: Page, call: SharedCall) {
    this.page = page;
    this.#call = call;
    page.on('requestfinished', (request) => void this.#note(request).catch((error: unknown) => this.#faults.push(String(error))));
    page.on('console', (message) => {
      if (message.type() === 'error') this.#faults.push(message.text());
    });
  }

  /** Opens the widget in its client; it goes into the call without a lobby. */
  static async open(page: Page, call: SharedCall, credentials: Credentials, room: string): Promise<ElementCall> {
    const elementCall = new ElementCall(page, call);
    const order: HostOrder = { credentials, room, elementCallUrl: `${call.pagesUrl}/element-call/index.html` };
    await page.goto(`${call.pagesUrl}/host.html#${encodeURIComponent(JSON.stringify(order))}`);
    return elementCall;
  }

  async report(): Promise<HostReport> {
    const report = (await this.page.evaluate('window.report')) as HostReport | undefined;
    if (report === undefined) throw new Error('the widget host has not begun');
    return report;
  }

  /** Until Element Call has told its client that it is in the call. */
  joined(): Promise<HostReport> {
    return eventually('Element Call to be in the call', JOINING_MS, async () => {
      const report = await this.report();
      if (report.steps.includes('io.element.join') && report.failures.length === 0) return report;
      throw new Error(`${JSON.stringify(report)}\n${this.#faults.slice(-5).join('\n')}`);
    });
  }

  probes(): Exchange[] {
    return this.exchanges.filter(({ path }) => path === '/delegate_delayed_leave');
  }

  /** The requests that hand a delayed event over. */
  delegations(): Exchange[] {
    return this.exchanges.filter(({ body }) => body?.delay_id !== undefined);
  }

  /** The newest delayed event that the widget had scheduled has been handed over; its delay_id. */
  delegated(): Promise<string> {
    return eventually('Element Call to hand its leave over', JOINING_MS, async () => {
      const delayId = (await this.report()).delays.at(-1)?.delayId;
      const done = this.delegations().find(({ body, status }) => body?.delay_id === delayId && status === 200);
      if (delayId !== undefined && done !== undefined) return delayId;
      throw new Error(JSON.stringify(this.exchanges.map(({ path, status }) => `${path} ${status}`)));
    });
  }

  /** As the tokens say that the service gave out. */
  seat(): Seat {
    const [newest] = this.exchanges.flatMap(({ answer }) => /"jwt"\s*:\s*"([^"]+)"/.exec(answer)?.[1] ?? []).slice(-1);
    if (newest === undefined) throw new Error('Element Call was given no token');
    const { sub, video } = JSON.parse(Buffer.from(newest.split('.')[1] ?? '', 'base64url').toString()) as {
      sub: string;
      video: { room: string };
    };
    return { sfuRoom: video.room, identity: sub };
  }

  async hangUp(): Promise<void> {
    await this.page.frameLocator('iframe').getByTestId('incall_leave').click();
  }

  async #note(request: Request): Promise<void> {
    if (request.method() !== 'POST' || !request.url().startsWith(this.#call.serviceUrl)) return;
    const response = await request.response();
    if (response === null) return;
    const sent = request.postData();
    this.exchanges.push({
      path: new URL(request.url()).pathname,
      body: sent === null ? null : (JSON.parse(sent) as Record<string, unknown>),
      authorized: request.headers().authorization !== undefined,
      status: response.status(),
      answer: await response.text().catch(() => ''),
      anyOrigin: response.headers()['access-control-allow-origin'] === '*',
    });
  }
}
