// timestamps.py for Node: the same file format and the same clock.
const fs = require('node:fs');

const RECORD_INTERVAL_JOBS = 50;
const file = process.env.BENCH_TIMESTAMPS ? fs.openSync(process.env.BENCH_TIMESTAMPS, 'a') : null;
const jobs = Number(process.env.BENCH_JOBS || 0);
const recordsEveryJob = 'BENCH_EVERY_JOB' in process.env;
let count = 0;

exports.record = (number) => {
  count += 1;
  const recorded = recordsEveryJob || count === 1 || count % RECORD_INTERVAL_JOBS === 0 || count === jobs;
  if (recorded && file !== null) {
    fs.writeSync(file, `${recordsEveryJob ? number : count} ${process.hrtime.bigint()}\n`);
  }
};
