// Two handlers with the platform's Node SDK.
const { createJobApp } = require('@constructive-io/knative-job-fn');

const app = createJobApp();

app.post('/note', async (req, res, next) => {
  res.status(200).json({ noted: req.body.id });
});

app.post('/fail', async (req, res, next) => {
  next(new Error('boom'));
});

app.listen(Number(process.env.PORT), () => console.log('serving'));
