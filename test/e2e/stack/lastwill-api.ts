// The HTTP API of lastwill, as a client of it sees it.
import { eventually } from './processes.ts';

export type Handle = { delay_id: string; refresh_token?: string } | { send_token: string; refresh_token?: string; cancel_token?: string };
export interface Delegate {
  readonly homeserver: string;
  readonly leave: Handle;
  readonly lost?: { send_token: string; refresh_token?: string };
  readonly timeout_ms: number;
}
export interface Delegation {
  readonly id: string;
  readonly state: 'awaiting' | 'connected' | 'settling' | 'leaving' | 'ended' | 'cancelling';
  readonly sid?: string | null;
  readonly restart_due_at: number | null;
  readonly expires_at: number;
  readonly outcome?: unknown;
  readonly history?: readonly unknown[];
}
export interface ApiAnswer {
  readonly status: number;
  readonly body: Delegation & { errcode?: string; error?: string };
}

export class LastwillApi {
  readonly url: string;

  constructor(url: string) {
    this.url = url;
  }

  get webhookUrl(): string {
    return `${this.url}/sfu_webhook`;
  }

  delegate(token: string, delegation: Delegate): Promise<ApiAnswer> {
    return this.#call('POST', '/v1/delegations', token, delegation);
  }

  look(token: string, id: string): Promise<ApiAnswer> {
    return this.#call('GET', `/v1/delegations/${id}`, token);
  }

  handBack(token: string, id: string): Promise<ApiAnswer> {
    return this.#call('DELETE', `/v1/delegations/${id}`, token);
  }

  /** Until the delegation is in that state. */
  reaches(token: string, id: string, state: Delegation['state'], timeoutMs: number): Promise<Delegation> {
    return eventually(`delegation ${id} to be ${state}`, timeoutMs, async () => {
      const answer = await this.look(token, id);
      if (answer.body.state === state) return answer.body;
      throw new Error(`${answer.status} ${JSON.stringify(answer.body)}`);
    });
  }

  /** Sum over all labels of one metric; 0 when it has no samples yet. */
  async metric(name: string, label = ''): Promise<number> {
    const page = await (await fetch(`${this.url}/metrics`)).text();
    return page
      .split('\n')
      .filter((line) => (line.startsWith(`${name} `) || line.startsWith(`${name}{`)) && line.includes(label))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
  }

  async #call(method: string, path: string, token: string, body?: unknown): Promise<ApiAnswer> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: (text === '' ? {} : JSON.parse(text)) as ApiAnswer['body'] };
  }
}
