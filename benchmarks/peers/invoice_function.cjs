// The platform's function SDK with one route, for the HTTP comparisons.
const path = require('node:path');
const { createJobApp } = require(path.join(process.env.BENCH_NODE_MODULES, '@constructive-io/knative-job-fn'));

const app = createJobApp();
app.post('/process_invoice', (req, res) => {
  res.status(200).json({ id: req.body.id });
});
app.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('serving'));
