// `npm run simulate`: plays worlds, and tells what may never happen of those where it did. Exit code 1: of one at least.
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { orUsage } from '../support/usage.ts';
import { anyPlan, type Plan, planOf } from './plan.ts';
import { type Result, World } from './world.ts';

const USAGE = `npm run simulate [-- --seeds N --from N --keep-going] [--replicas N] [--dense]
npm run simulate -- --seed N [--trace] [--replicas N] [--dense] [--no-shrink]

--seeds       how many worlds; --from is the seed of the first
--keep-going  also after one that fails
--seed        one world, with --trace line by line; one that fails is shrunk to the smallest plan that still does
--replicas    of lastwill in each world
--dense       worlds with more deeds and faults
--no-shrink   it is not
`;
const { values } = orUsage(USAGE, () =>
  parseArgs({
    options: {
      help: { type: 'boolean' },
      seed: { type: 'string' },
      seeds: { type: 'string', default: '1000' },
      from: { type: 'string', default: '1' },
      replicas: { type: 'string', default: '1' },
      dense: { type: 'boolean', default: false },
      trace: { type: 'boolean', default: false },
      'no-shrink': { type: 'boolean', default: false },
      'keep-going': { type: 'boolean', default: false },
    },
  }),
);
const replicas = Number(values.replicas);

function run(plan: Plan): Promise<Result> {
  return new World(plan, values.trace ? (line) => console.log(line) : undefined).run();
}

function report(seed: number, { violations }: Result): void {
  for (const { never, atMs, what } of violations) console.log(`seed ${seed}, at ${(atMs / 1_000).toFixed(3)} s: ${never}: ${what}`);
}

async function shrink(seed: number): Promise<void> {
  const property = fc.asyncProperty(anyPlan(replicas, values.dense), async (plan) => (await new World(plan).run()).violations.length === 0);
  const { counterexample, numShrinks } = await fc.check(property, {
    seed,
    numRuns: 1,
    endOnFailure: false,
    interruptAfterTimeLimit: 60_000,
  });
  if (counterexample === null) return;
  console.log(`The smallest plan that fails (${numShrinks} shrinks):\n${JSON.stringify(counterexample[0], null, 1)}`);
  const [plan] = counterexample;
  report(seed, await new World(plan, (line) => console.log(line)).run());
}

if (values.seed !== undefined) {
  const seed = Number(values.seed);
  const plan = planOf(seed, replicas, values.dense);
  console.log(JSON.stringify(plan));
  const result = await run(plan);
  report(seed, result);
  if (result.violations.length > 0 && !values.trace && !values['no-shrink']) await shrink(seed);
  process.exitCode = result.violations.length > 0 ? 1 : 0;
} else {
  const [from, count] = [Number(values.from), Number(values.seeds)];
  const beganMs = performance.now();
  let [presentMs, simulatedMs, failed, done] = [0, 0, 0, 0];
  for (let seed = from; seed < from + count; seed += 1) {
    const result = await run(planOf(seed, replicas, values.dense));
    presentMs += result.presentMs;
    simulatedMs += result.simulatedMs;
    done += 1;
    if (result.violations.length === 0) continue;
    failed += 1;
    report(seed, result);
    if (!values['keep-going']) break;
  }
  const seconds = (performance.now() - beganMs) / 1_000;
  const hours = presentMs / 3_600_000;
  console.log(
    `${done} runs, ${failed} failed; ${(done / seconds).toFixed(0)} runs/s; ${hours.toFixed(1)} call-hours (${(hours / seconds).toFixed(2)}/s) in ${(simulatedMs / 3_600_000).toFixed(1)} simulated hours`,
  );
  process.exitCode = failed > 0 ? 1 : 0;
}
