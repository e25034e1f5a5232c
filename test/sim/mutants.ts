// Engines that are broken on purpose, each by one change of one line: what the judge of the simulation has to notice. A mutant names the
// text that it replaces, so that a change of the source which makes it meaningless is noticed as well.
export interface Mutant {
  readonly name: string;
  /** From the root of the project. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const delegation = (file: string): string => `src/delegation/${file}`;

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'any departure ends any session: the fence of the SID is gone',
    file: delegation('steps/connected.ts'),
    from: 'if (event.joinedAtMs < session.joinedAtMs) return unchanged(row);\n  // A newer session',
    to: '// A newer session',
  },
  {
    name: 'a restart needs no evidence: a hope, not a lease',
    file: delegation('steps/connected.ts'),
    from: 'state.seenAtMs >= oldestMs ? RESTART : ask(oldestMs)',
    to: 'RESTART',
  },
  {
    name: 'a webhook is answered before its commit',
    file: 'src/engine/engine.ts',
    from: 'const applied = await earlyDepartures.heard(about.room, about.about, () => watched(where, about.onceKey, () => about.about));',
    to: 'watched(where, about.onceKey, () => about.about).catch(() => {}); const applied: Applied = { rows: 1, changed: 1, duplicate: false, earliestDueMs: null, todo: [] };',
  },
  {
    name: 'a leave that failed is not tried again',
    file: delegation('steps/leaving.ts'),
    from: 'const attempts = state.attempts + 1;\n      const usualMs',
    to: "if (answer.kind === 'failed') return finish(row, 'sent', at.nowMs, at);\n      const attempts = state.attempts + 1;\n      const usualMs",
  },
  {
    name: 'a 404 to a restart is taken for success',
    file: 'src/homeserver/dialect.ts',
    from: "if (status === 404 && errcode === 'M_NOT_FOUND') return settled({ kind: 'final', how: 'gone' });",
    to: "if (status === 404 && errcode === 'M_NOT_FOUND') return settled({ kind: 'ok' });",
  },
  {
    name: 'nobody is waited for: a reconnection is a departure',
    file: delegation('steps/moves.ts'),
    from: 'const untilMs = departure.atMs + waitMs;',
    to: 'const untilMs = departure.atMs;',
  },
  {
    name: 'an SFU that does not answer has nobody in it',
    file: 'src/engine/perform.ts',
    from: "if (evidence.kind === 'unreachable') return { kind: 'sfu_unreachable', askedAtMs: evidence.askedAtMs };",
    to: "if (evidence.kind === 'unreachable') return { kind: 'snapshot', askedAtMs: evidence.askedAtMs, present: [], roomSid: null, afterRestart: false, answersSinceMs: 0, lastSeenMs: null, lookedFor: true };",
  },
  {
    name: 'a second hand-over of one event knows nothing of who is there',
    file: delegation('steps/same-event.ts'),
    from: 'state: goesOn(older.state, handOver) ? carried(older) : fresh.state',
    to: 'state: fresh.state',
  },
  {
    name: 'an event that was superseded is not cancelled',
    file: delegation('steps/leaving.ts'),
    from: "if (!cancellable) return end(row, 'superseded', at);",
    to: "if (cancellable) return end(row, 'superseded', at);",
  },
  {
    name: 'restarts come after the delay',
    file: delegation('steps/connected.ts'),
    from: 'const USUAL_PART = 0.75;\nconst EARLIEST_PART = 0.4;',
    to: 'const USUAL_PART = 1.05;\nconst EARLIEST_PART = 1.05;',
  },
  {
    name: 'no routine look at the rooms: a lost webhook is lost',
    file: 'src/engine/sweep.ts',
    from: 'if (to > from) lookInTurn(from, to).catch(failed);',
    to: '',
  },
  {
    name: 'who never connects is waited for for ever',
    file: delegation('steps/awaiting.ts'),
    from: 'if (event.askedAtMs >= state.connectByMs) return neverConnected(row, event.askedAtMs, at);',
    to: '',
  },
  {
    name: 'a retry may be the other ending of its group',
    file: delegation('steps/leaving.ts'),
    from: "{ kind: 'send', action: state.action, timeoutMs: SEND_TIMEOUT_MS }",
    to: "{ kind: 'send', action: row.handles.kind === 'futures' && row.handles.lost !== null && state.attempts % 2 === 1 ? (state.action === 'lost' ? 'leave' : 'lost') : state.action, timeoutMs: SEND_TIMEOUT_MS }",
  },
  {
    name: 'an old decision is carried out without another look',
    file: 'src/engine/perform.ts',
    from: "if (row.state.kind !== 'leaving' || nowMs - row.state.confirmedAtMs <= FRESH_MS) return true;",
    to: 'return true;',
  },
  {
    name: 'a claim is not looked at before the call',
    file: 'src/engine/perform.ts',
    from: '(await isStillSo()) && (claim === null || (await store.holds(claim, HELD_AGO_MS[action])));',
    to: 'isStillSo();',
  },
  {
    name: 'the webhook alone decides',
    file: delegation('reasons.ts'),
    from: 'return !WEIGHTS[cause].mustAsk && waitMsOf(cause, policy) === 0;',
    to: 'return true;',
  },
  {
    name: 'a webhook that comes twice counts twice',
    file: 'src/engine/engine.ts',
    from: 'watched(where, about.onceKey, () => about.about)',
    to: 'watched(where, null, () => about.about)',
  },
  {
    name: 'a failed restart is tried again at once, and again',
    file: delegation('steps/connected.ts'),
    from: 'restartDueMs: at.nowMs + pauseMs }',
    to: 'restartDueMs: at.nowMs }',
  },
  {
    name: 'a store that is away takes everybody with it',
    file: 'src/engine/keep-alive.ts',
    from: '      on = true;\n      look();',
    to: '      on = true;',
  },
  {
    name: 'a room that was found in order is so for long, whoever is there',
    file: 'src/engine/quiet-rooms.ts',
    from: ' && known.print === printOf(list);',
    to: ';',
  },
  {
    name: 'a question counts that was put before what it is asked about',
    file: 'src/engine/presence.ts',
    from: 'running.askedAtMs < notBeforeMs || ',
    to: '',
  },
  {
    name: 'one who has sent too much stops the calls for all others',
    file: 'src/engine/lane.ts',
    from: "if (action !== 'send' || retryAfterMs === null || isDoubted(lane)) return false;",
    to: 'return false;',
  },
  {
    name: 'of two hand-overs the one that is taken last is the newer one',
    file: 'src/engine/hand-over.ts',
    from: 'return askedAtMs !== undefined && createdAtMs > askedAtMs && createdAtMs <= nowMs;',
    to: 'return false;',
  },
  {
    name: 'a clock that was set back is not noticed',
    file: delegation('steps/set-back.ts'),
    from: 'if (aheadMs <= CLOCKS_MS) return row;',
    to: 'if (aheadMs <= Number.POSITIVE_INFINITY) return row;',
  },
  {
    name: 'whoever is listed is there, whichever node has died',
    file: 'src/sfu/sessions.ts',
    from: 'lostOnes.size === 0 ? [] : listed.filter(isLost);',
    to: '[] as Seen[];',
  },
  {
    name: 'who was there first is not asked for',
    file: 'src/sfu/hosting.ts',
    from: 'clock.nowMs() - oldestMs >= HOLDS_MS',
    to: 'oldestMs === 1',
  },
  {
    name: 'that no node had a room counts for whoever has come since',
    file: 'src/sfu/hosting.ts',
    from: 'running.atMs >= atMs',
    to: 'true',
  },
  {
    name: 'who is not listed is not there, whatever the nodes say',
    file: 'src/sfu/unlisted.ts',
    from: 'if (missing.length === 0) return [];',
    to: 'return [];',
  },
  {
    name: 'the departure of an older session ends the search for a newer one',
    file: 'src/sfu/unlisted.ts',
    from: '(sid === null || known.sid === sid)',
    to: 'true',
  },
];
