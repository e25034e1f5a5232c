// Engines that are broken on purpose, each by one change of one line: what the judge of the simulation has to notice. A mutant names the
// text that it replaces, so that a change of the source which makes it meaningless is noticed as well.
export interface Mutant {
  readonly name: string;
  /** The first world in which it was noticed. Any other will do; it takes longer to find one. */
  readonly noticedIn: WorldName;
  /** From the root of the project. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

export interface WorldName {
  readonly seed: number;
  readonly dense: boolean;
}

const dense = (seed: number): WorldName => ({ seed, dense: true });
const usual = (seed: number): WorldName => ({ seed, dense: false });
const delegation = (file: string): string => `src/delegation/${file}`;

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'any departure ends any session: the fence of the SID is gone',
    noticedIn: dense(4283),
    file: delegation('steps/connected.ts'),
    from: 'if (event.joinedAtMs < session.joinedAtMs) return unchanged(row);\n  // A newer session',
    to: '// A newer session',
  },
  {
    name: 'a restart needs no evidence: a hope, not a lease',
    noticedIn: dense(97),
    file: delegation('steps/connected.ts'),
    from: 'state.seenAtMs >= oldestMs ? RESTART : ask(oldestMs)',
    to: 'RESTART',
  },
  {
    name: 'a webhook is answered before its commit',
    noticedIn: dense(1),
    file: 'src/engine/engine.ts',
    from: ': await earlyDepartures.heard(room, about.about, all);',
    to: ': (all().catch(() => {}), { rows: 1, changed: 1, duplicate: false, begun: 0 });',
  },
  {
    name: 'a leave that failed is not tried again',
    noticedIn: dense(4),
    file: delegation('steps/leaving.ts'),
    from: 'const attempts = state.attempts + 1;\n      const usualMs',
    to: "if (answer.kind === 'failed') return finish(row, 'sent', at.nowMs, at);\n      const attempts = state.attempts + 1;\n      const usualMs",
  },
  {
    name: 'a 404 to a restart is taken for success',
    noticedIn: dense(28),
    file: 'src/homeserver/dialect.ts',
    from: "if (status === 404 && errcode === 'M_NOT_FOUND') return settled({ kind: 'final', how: 'gone' });",
    to: "if (status === 404 && errcode === 'M_NOT_FOUND') return settled({ kind: 'ok' });",
  },
  {
    name: 'nobody is waited for: a reconnection is a departure',
    noticedIn: dense(6),
    file: delegation('steps/moves.ts'),
    from: 'const untilMs = departure.atMs + waitMs;',
    to: 'const untilMs = departure.atMs;',
  },
  {
    name: 'an SFU that does not answer has nobody in it',
    noticedIn: dense(42),
    file: 'src/engine/perform.ts',
    from: "if (evidence.kind === 'unreachable') return { kind: 'sfu_unreachable', askedAtMs: evidence.askedAtMs };",
    to: "if (evidence.kind === 'unreachable') return { kind: 'snapshot', askedAtMs: evidence.askedAtMs, present: [], roomSid: null, afterRestart: false, answersSinceMs: 0, lastSeenMs: null, lookedFor: true };",
  },
  {
    name: 'a second hand-over of one event knows nothing of who is there',
    noticedIn: dense(1_185),
    file: delegation('steps/same-event.ts'),
    from: 'const state = goesOn(older.state, handOver) ? carried(older) : anew(older.state, fresh.state);',
    to: 'const state: LiveState = fresh.state;',
  },
  {
    name: 'an event that was superseded is not cancelled',
    noticedIn: dense(55),
    file: delegation('steps/leaving.ts'),
    from: "if (!cancellable) return end(row, 'superseded', at);",
    to: "if (cancellable) return end(row, 'superseded', at);",
  },
  {
    name: 'restarts come after the delay',
    noticedIn: dense(1),
    file: delegation('steps/connected.ts'),
    from: 'const USUAL_PART = 0.75;\nconst EARLIEST_PART = 0.4;',
    to: 'const USUAL_PART = 1.05;\nconst EARLIEST_PART = 1.05;',
  },
  {
    name: 'no routine look at the rooms: a lost webhook is lost',
    noticedIn: dense(12),
    file: 'src/engine/sweep.ts',
    from: 'if (to > from) lookInTurn(from, to).catch(failed);',
    to: '',
  },
  {
    name: 'who never connects is waited for for ever',
    noticedIn: dense(2),
    file: delegation('steps/awaiting.ts'),
    from: 'if (event.askedAtMs >= state.connectByMs) return neverConnected(row, event.askedAtMs, at);',
    to: '',
  },
  {
    name: 'a retry may be the other ending of its group',
    noticedIn: dense(5),
    file: delegation('steps/leaving.ts'),
    from: "{ kind: 'send', action: state.action, timeoutMs: SEND_TIMEOUT_MS }",
    to: "{ kind: 'send', action: row.handles.kind === 'futures' && row.handles.lost !== null && state.attempts % 2 === 1 ? (state.action === 'lost' ? 'leave' : 'lost') : state.action, timeoutMs: SEND_TIMEOUT_MS }",
  },
  {
    name: 'an old decision is carried out without another look',
    noticedIn: dense(1_115),
    file: 'src/engine/perform.ts',
    from: "if (row.state.kind !== 'leaving' || nowMs - row.state.confirmedAtMs <= FRESH_MS) return true;",
    to: 'return true;',
  },
  {
    name: 'a claim is not looked at before the call',
    noticedIn: dense(59),
    file: 'src/engine/perform.ts',
    from: '(await isStillSo()) && (claim === null || (await store.holds(claim, HELD_AGO_MS[action])));',
    to: 'isStillSo();',
  },
  {
    name: 'the webhook alone decides',
    noticedIn: dense(4),
    file: delegation('reasons.ts'),
    from: 'return !WEIGHTS[cause].mustAsk && waitMsOf(cause, policy) === 0;',
    to: 'return true;',
  },
  {
    name: 'a webhook that comes twice counts twice',
    noticedIn: dense(1),
    file: 'src/engine/engine.ts',
    from: 'perform }, where, onceKey, () => about.about)',
    to: 'perform }, where, null, () => about.about)',
  },
  {
    name: 'a failed restart is tried again at once, and again',
    noticedIn: dense(50),
    file: delegation('steps/connected.ts'),
    from: 'restartDueMs: at.nowMs + pauseMs }',
    to: 'restartDueMs: at.nowMs }',
  },
  {
    name: 'a store that is away takes everybody with it',
    noticedIn: dense(253),
    file: 'src/engine/keep-alive.ts',
    from: '      on = true;\n      look();',
    to: '      on = true;',
  },
  {
    name: 'a room that was found in order is so for long, whoever is there',
    noticedIn: dense(166),
    file: 'src/engine/quiet-rooms.ts',
    from: ' && known.print === printOf(list);',
    to: ';',
  },
  {
    name: 'a question counts that was put before what it is asked about',
    noticedIn: usual(1_322),
    file: 'src/engine/presence.ts',
    from: 'running.askedAtMs < notBeforeMs || ',
    to: '',
  },
  {
    name: 'one who has sent too much stops the calls for all others',
    noticedIn: dense(1_320),
    file: 'src/engine/lane.ts',
    from: "if (action !== 'send' || retryAfterMs === null || isDoubted(lane)) return false;",
    to: 'return false;',
  },
  {
    name: 'of two hand-overs the one that is taken last is the newer one',
    noticedIn: dense(396),
    file: 'src/engine/hand-over.ts',
    from: 'return askedAtMs !== undefined && createdAtMs > askedAtMs && createdAtMs <= nowMs;',
    to: 'return false;',
  },
  {
    name: 'a clock that was set back is not noticed',
    noticedIn: dense(336),
    file: delegation('steps/set-back.ts'),
    from: 'if (aheadMs <= CLOCKS_MS) return row;',
    to: 'if (aheadMs <= Number.POSITIVE_INFINITY) return row;',
  },
  {
    name: 'whoever is listed is there, whichever node has died',
    noticedIn: dense(290),
    file: 'src/sfu/sessions.ts',
    from: 'lostOnes.size === 0 ? [] : listed.filter(isLost);',
    to: '[] as Seen[];',
  },
  {
    name: 'who was there first is not asked for',
    noticedIn: dense(135),
    file: 'src/sfu/hosting.ts',
    from: 'clock.nowMs() - oldestMs >= HOLDS_MS',
    to: 'oldestMs === 1',
  },
  {
    name: 'that no node had a room counts for whoever has come since',
    noticedIn: dense(1_271),
    file: 'src/sfu/hosting.ts',
    from: 'running.atMs >= atMs',
    to: 'true',
  },
  {
    name: 'who is not listed is not there, whatever the nodes say',
    noticedIn: dense(12),
    file: 'src/sfu/unlisted.ts',
    from: 'if (missing.length === 0) return [];',
    to: 'return [];',
  },
  {
    name: 'the departure of an older session ends the search for a newer one',
    noticedIn: dense(7_648),
    file: 'src/sfu/unlisted.ts',
    from: '(sid === null || known.sid === sid)',
    to: 'true',
  },
];
