// A run as it goes: jobs with their progress, losses as they come, any trace by its id.
const NAMESPACE = 'http://www.w3.org/2000/svg';
const draw = (tag, attributes, ...children) => {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const ask = async (address) => {
  const response = await fetch(address, { cache: 'no-store' });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? response.statusText);
  return answer;
};

function duration(seconds) {
  if (seconds == null) return '';
  if (seconds < 1) return '< 1 s';
  if (seconds < 90) return Math.round(seconds) + ' s';
  if (seconds < 5400) return Math.round(seconds / 60) + ' min';
  return (seconds / 3600).toFixed(1) + ' h';
}

function jobRow(job) {
  const { progress } = job;
  const far = progress
    ? progress.done + (progress.total == null ? '' : ' of ' + progress.total) + ' ' + progress.unit + (progress.left_s == null ? '' : ', about ' + duration(progress.left_s) + ' left')
    : job.message ?? '';
  const bar = progress?.total ? make('progress', { max: progress.total, value: progress.done, 'aria-label': job.id }) : null;
  return make('tr', { class: job.state }, make('th', { scope: 'row' }, foreign(job.id)), make('td', {}, job.state), make('td', { class: 'r' }, duration(job.wall_s)), make('td', {}, bar, foreign(far)));
}

// Losses of one training: a line over steps, from 0 up.
function curve({ job, points, steps }) {
  const [width, height] = [150, 80];
  const high = Math.max(...points.map(([, loss]) => loss), 1e-9);
  const last = points.at(-1);
  const path = points.map(([step, loss], i) => (i ? 'L' : 'M') + (step / (steps || last[0]) * width).toFixed(1) + ' ' + (height - loss / high * height).toFixed(1)).join('');
  const said = job + ': loss ' + last[1].toFixed(3) + ' after step ' + last[0] + (steps ? ' of ' + steps : '');
  return make('figure', { class: 'loss' },
    draw('svg', { viewBox: '0 -2 ' + width + ' ' + (height + 4), role: 'img', 'aria-label': said },
      draw('path', { class: 'curve', d: path }), draw('line', { class: 'axis', x1: 0, x2: width, y1: height, y2: height })),
    make('figcaption', {}, foreign(job.split('/').slice(1).join('/') || job), make('br'), last[1].toFixed(3) + ' nats, step ' + last[0] + (steps ? ' of ' + steps : '')));
}

function show(run) {
  const counts = run.done + ' of ' + run.jobs.length + ' jobs done' + (run.left_s != null && run.done < run.jobs.length ? ', about ' + duration(run.left_s) + ' left at the rate so far' : '') + '.';
  if (byId('live-status').textContent !== counts) byId('live-status').textContent = counts;
  const states = ['running', 'failed', 'interrupted', 'waiting'];
  const done = run.jobs.filter((job) => job.state === 'done');
  const open = run.jobs.filter((job) => job.state !== 'done').sort((a, b) => states.indexOf(a.state) - states.indexOf(b.state));
  byId('live-jobs').replaceChildren(...open.map(jobRow));
  byId('live-jobs').parentElement.hidden = !open.length;
  byId('live-done').replaceChildren(...done.map(jobRow));
  byId('live-done-count').textContent = done.length + (done.length === 1 ? ' job' : ' jobs') + ' done';
  byId('live-losses').replaceChildren(...run.curves.filter(({ points }) => points.length).map(curve));
  byId('live-losses-none').hidden = run.curves.length > 0;
  byId('live-reports').replaceChildren(...run.reports.map(([address, name]) => make('li', {}, make('a', { href: address }, name))));
  byId('live-reports-none').hidden = run.reports.length > 0;
}

async function poll() {
  let wait = 2000;
  try {
    const run = await ask('/run.json');
    show(run);
    byId('live-wrong').hidden = true;
    if (run.jobs.every((job) => job.state === 'done')) wait = 15000;
  } catch (error) {
    byId('live-wrong').textContent = 'No news from the server: ' + error.message;
    byId('live-wrong').hidden = false;
  }
  setTimeout(poll, wait);
}

byId('live-trace').addEventListener('submit', async (event) => {
  event.preventDefault();
  const place = byId('live-found');
  try {
    const { traces, more } = await ask('/traces/' + encodeURIComponent(byId('live-id').value.trim()));
    place.replaceChildren(...traces.map(({ who, prompt, row }) => make('article', { class: 'pane' },
      make('h3', {}, foreign(row[2]), ' · ', foreign(who)),
      make('p', { class: 'about' }, row[4] ? 'verdict: ' + row[4] : 'not verified', row[5] ? make('span', {}, ' (', foreign(row[5]), ')') : null, row[6] ? ' · ' + row[6] + ' tokens, ' + (row[7] / row[6]).toFixed(2) + ' nats/token' : ' · not scored'),
      make('p', { class: 'prompt', dir: 'auto' }, prompt), ...tokens(row).filter(Boolean))));
    if (more > 0) place.append(make('p', { class: 'note' }, more + ' more traces have this id or are of this problem.'));
  } catch (error) {
    place.replaceChildren(make('p', { class: 'missing' }, error.message));
  }
});
poll();
