// A function as the platform's users write it: its own SDK around a handler that does nothing.
const path = require('node:path');
const { createJobApp } = require(path.join(process.env.BENCH_NODE_MODULES, '@constructive-io/knative-job-fn'));
const marks = require('./marks.cjs');

const app = createJobApp();
app.post('/noop', (req, res) => {
  marks.seen(req.body.n);
  res.status(200).json({});
});
app.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('serving'));
