// marks.py for Node: the same file, the same clock.
const fs = require('node:fs');

const EVERY = 50;
const file = process.env.BENCH_MARKS ? fs.openSync(process.env.BENCH_MARKS, 'a') : null;
const jobs = Number(process.env.BENCH_JOBS || 0);
const each = 'BENCH_EACH' in process.env;
let count = 0;

exports.seen = (number) => {
  count += 1;
  const marked = each || count === 1 || count % EVERY === 0 || count === jobs;
  if (marked && file !== null) fs.writeSync(file, `${each ? number : count} ${process.hrtime.bigint()}\n`);
};
