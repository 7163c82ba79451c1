// graphile-worker: install, enqueue N, ping N, work. BENCH_LOCAL_QUEUE is the size of the local queue (0: none).
const path = require('node:path');
const modules = process.env.BENCH_NODE_MODULES;
const { run, runMigrations, makeWorkerUtils, Logger } = require(path.join(modules, 'graphile-worker'));
const { Client } = require(path.join(modules, 'pg'));
const timestamps = require('./timestamps.cjs');

const connectionString = process.env.DATABASE_URL;
const CHUNK = 5000;
const logger = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message);
});
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const verbs = {
  async install() {
    await runMigrations({ connectionString, logger });
  },
  async enqueue(jobs) {
    const utils = await makeWorkerUtils({ connectionString, logger });
    const startedAt = process.hrtime.bigint();
    for (let start = 0; start < jobs; start += CHUNK) {
      const size = Math.min(CHUNK, jobs - start);
      await utils.addJobs(Array.from({ length: size }, (_, i) => ({ identifier: 'noop', payload: { n: start + i } })));
    }
    console.log(Number(process.hrtime.bigint() - startedAt) / 1e9);
    await utils.release();
  },
  async ping(jobs) {
    const client = new Client({ connectionString });
    await client.connect();
    for (let number = 0; number < jobs; number += 1) {
      await pause(30 + ((number * 7) % 11)); // as in script.py
      await client.query('begin');
      await client.query("select graphile_worker.add_job('noop', json_build_object('n', $1::int))", [number]);
      console.log(number, String(process.hrtime.bigint()));
      await client.query('commit');
    }
    await client.end();
  },
  async work() {
    const size = Number(process.env.BENCH_LOCAL_QUEUE || 0);
    const batching = size > 0 ? { localQueue: { size }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {};
    const runner = await run({
      taskList: { noop: (payload) => timestamps.record(payload.n) },
      preset: {
        worker: {
          connectionString,
          logger,
          concurrentJobs: 24,
          maxPoolSize: 12,
          pollInterval: 2000,
          ...batching,
        },
      },
    });
    await runner.promise;
  },
};

const [verb, ...numbers] = process.argv.slice(2);
verbs[verb](...numbers.map(Number)).catch((error) => {
  console.error(error);
  process.exit(1);
});
