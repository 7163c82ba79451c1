// A function with the platform's SDK and an empty handler.
const path = require('node:path');
const { createJobApp } = require(path.join(process.env.BENCH_NODE_MODULES, '@constructive-io/knative-job-fn'));
const timestamps = require('./timestamps.cjs');

const app = createJobApp();
app.post('/noop', (req, res) => {
  timestamps.record(req.body.n);
  res.status(200).json({});
});
app.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('serving'));
