// timestamps.py for Node: the same file format and the same clock.
const fs = require('node:fs');

const RECORD_INTERVAL_JOBS = 50;
const folder = process.env.BENCH_TIMESTAMPS;
const file = folder ? fs.openSync(`${folder}/${process.pid}`, 'a') : null;
const recordsEveryJob = 'BENCH_EVERY_JOB' in process.env;
let count = 0;

exports.record = (number) => {
  count += 1;
  if (file !== null && (recordsEveryJob || count === 1 || count % RECORD_INTERVAL_JOBS === 0)) {
    fs.writeSync(file, `${recordsEveryJob ? number : count} ${process.hrtime.bigint()}\n`);
  }
};
