// The report: sorting, filtering and copying of tables, values and files of figures, answers problem by
// problem, training rows token by token.
// Says for a moment what a button did, to eyes and to screen readers.
const spoken = make('p', { class: 'unseen', role: 'status' });
function done(pressed, text) {
  const before = pressed.dataset.label ??= pressed.textContent;
  pressed.textContent = text;
  spoken.textContent = text;
  clearTimeout(pressed.timer);
  pressed.timer = setTimeout(() => { pressed.textContent = before; }, 1500);
}

async function copy(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Where a file's page may not use the clipboard directly.
    const area = make('textarea', { class: 'unseen' });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand('copy');
    area.remove();
    pressed.focus();
    if (!copied) return done(pressed, 'Could not copy');
  }
  done(pressed, 'Copied');
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  make('a', { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// A cell as a number to sort by: the first in it; what holds none comes last.
function number(text) {
  const plain = text.replace(/[\u202f\u2009\u00a0]/g, '').replaceAll('−', '-');
  const found = plain.match(/[-+]?(\d+\.?\d*|\.\d+)/);
  return found ? Number(found[0]) - (plain.includes('<') ? 1e-9 : 0) : NaN;
}

function table(figure) {
  const body = figure.querySelector('tbody');
  const heads = all('thead th', figure);
  const rows = [...body.rows];
  const cell = (row, column) => row.cells[column].textContent;
  let sorted = null;

  function sort(column) {
    const up = !(sorted?.column === column) ? !heads[column].matches('.r') : !sorted.up;
    const turns = sorted?.column === column ? sorted.turns + 1 : 1;
    sorted = turns > 2 ? null : { column, up, turns };
    const order = [...rows];
    if (sorted) {
      const numeric = heads[column].matches('.r');
      const sign = up ? 1 : -1;
      order.sort((a, b) => {
        const [x, y] = [cell(a, column), cell(b, column)];
        if (!numeric) return sign * x.localeCompare(y, 'en', { numeric: true });
        const [m, n] = [number(x), number(y)];
        return isNaN(m) || isNaN(n) ? isNaN(m) - isNaN(n) : sign * (m - n);
      });
    }
    body.append(...order);
    heads.forEach((head, i) => {
      if (sorted && i === column) head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      else head.removeAttribute('aria-sort');
    });
  }
  if (rows.length > 1) {
    heads.forEach((head, column) => {
      const name = [...head.childNodes];
      head.append(button('', () => sort(column), { class: 'sort' }));
      head.lastChild.append(...name);
    });
  }

  function csv() {
    const field = (text) => /[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
    const shown = [...body.rows].filter((row) => !row.hidden);
    const lines = [heads.map((head) => head.textContent)].concat(shown.map((row) => [...row.cells].map((c) => c.textContent)));
    return lines.map((line) => line.map(field).join(',')).join('\n') + '\n';
  }
  const tools = make('div', { class: 'tools' });
  if (rows.length > 4) {
    const count = make('span', { role: 'status' });
    const caption = figure.querySelector('figcaption strong').textContent.replace('.', '');
    const filter = make('input', { type: 'search', placeholder: 'Filter rows', 'aria-label': 'Filter rows of ' + caption, autocomplete: 'off' });
    filter.addEventListener('input', () => {
      const wanted = filter.value.toLowerCase();
      rows.forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
      count.textContent = wanted ? rows.filter((row) => !row.hidden).length + ' of ' + rows.length : '';
    });
    tools.append(filter, count);
  }
  tools.append(button('Copy CSV', (event) => copy(csv(), event.currentTarget)));
  figure.append(tools);
}

// A drawing on its own: every element carries the style that the page gives it now.
function standalone(svg) {
  const copied = svg.cloneNode(true);
  const kept = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linejoin', 'paint-order', 'font-family', 'font-size', 'font-weight', 'font-variant-numeric'];
  const from = all('*', svg);
  all('*', copied).forEach((element, i) => {
    const style = getComputedStyle(from[i]);
    kept.forEach((name) => element.style.setProperty(name, style.getPropertyValue(name)));
  });
  all('.hit', copied).forEach((hit) => hit.remove());
  const { width, height } = svg.viewBox.baseVal;
  copied.setAttribute('width', width);
  copied.setAttribute('height', height);
  const paper = document.createElementNS(svg.namespaceURI, 'rect');
  paper.setAttribute('width', width);
  paper.setAttribute('height', height);
  paper.setAttribute('fill', getComputedStyle(document.documentElement).backgroundColor);
  copied.prepend(paper);
  return { text: new XMLSerializer().serializeToString(copied), width, height };
}

function png({ text, width, height }, name, pressed) {
  const image = new Image();
  image.onload = () => {
    const canvas = make('canvas', { width: 3 * width, height: 3 * height });
    canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => { save(blob, name); done(pressed, 'Saved'); }, 'image/png');
  };
  image.onerror = () => done(pressed, 'Could not draw');
  image.src = 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(text);
}

const tip = make('div', { class: 'tip', hidden: true });
function point(hit, text) {
  tip.textContent = text;
  tip.hidden = false;
  const box = hit.getBoundingClientRect();
  const width = document.documentElement.clientWidth;
  const left = Math.max(8, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, width - tip.offsetWidth - 8));
  const above = box.top - tip.offsetHeight - 4;
  tip.style.left = left + scrollX + 'px';
  tip.style.top = (above > 0 ? above : box.bottom + 4) + scrollY + 'px';
}
const leave = () => { tip.hidden = true; };

function figure(figure) {
  const name = figure.id.replace('figure-', '');
  const shown = () => all('svg', figure).find((svg) => svg.getBoundingClientRect().width > 0);
  for (const hit of all('.hit', figure)) {
    const title = hit.querySelector('title');
    hit.values = title.textContent;
    title.remove();
    hit.addEventListener('pointerenter', () => point(hit, hit.values));
    hit.addEventListener('pointerleave', leave);
  }
  // The same by keyboard: the arrows go through what the figure shows.
  let at = -1;
  const values = button('Values', () => step(1), { 'aria-label': 'Values of ' + figure.querySelector('figcaption strong').textContent.replace('.', '') + ': arrow keys go through them' });
  function step(by) {
    const hits = all('.hit', shown());
    if (!hits.length) return;
    at = (at + by + hits.length) % hits.length;
    point(hits[at], hits[at].values);
    spoken.textContent = hits[at].values;
  }
  values.addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
    if (event.key === 'Escape') leave();
  });
  values.addEventListener('blur', leave);
  figure.append(make('div', { class: 'tools' }, values,
    button('Save SVG', (event) => {
      save(new Blob([standalone(shown()).text], { type: 'image/svg+xml' }), name + '.svg');
      done(event.currentTarget, 'Saved');
    }),
    button('Save PNG', (event) => png(standalone(shown()), name + '.png', event.currentTarget))));
}

const armName = (arm) => data.arms[arm][0];
const armWords = (arm) => data.arms[arm][1];
const VERDICTS = { c: 'right', w: 'wrong', n: 'no answer', u: 'ungraded', '-': 'not asked' };
const VERDICT_MARKS = { c: '✓', w: '✗', n: '∅', u: '?', '-': '–' };
const verdict = (letter) => make('span', { class: 'verdict ' + (letter === 'c' ? 'valid' : letter === 'w' ? 'invalid' : 'unchecked') },
  make('span', { 'aria-hidden': 'true' }, VERDICT_MARKS[letter] + ' '), VERDICTS[letter]);

function answersTool() {
  const { replicates, note } = data.answers;
  // Every fine-tuning run that some arm has: a replicate and a seed.
  const runs = replicates.flatMap((replicate, r) => [...new Set(replicate.runs.map(([, seed]) => seed))].map((seed) => [r, seed]));
  const arms = [...new Set(replicates.flatMap((replicate) => replicate.runs.map(([arm]) => arm)))].sort((a, b) => a - b);
  const [selectA, selectB, selectRun, find] = ['a', 'b', 'run', 'find'].map((name) => byId('answers-' + name));
  const base = arms.find((arm) => armName(arm) === 'base');
  const first = arms.find((arm) => arm !== base) ?? arms[0];
  choose(selectA, arms.map((arm) => [arm, armWords(arm)]), first);
  choose(selectB, arms.map((arm) => [arm, armWords(arm)]), base ?? arms.find((arm) => arm !== first) ?? first);
  choose(selectRun, runs.map(([r, seed]) => [r + '/' + seed, (replicates.length > 1 ? replicates[r].name + ', ' : '') + 'seed ' + seed]));
  // An arm that was not trained with this seed (base) goes by its only run.
  const runOf = (replicate, arm, seed) => {
    const own = replicate.runs.map((run, i) => [i, run]).filter(([, run]) => run[0] === arm);
    return (own.find(([, run]) => run[1] === seed) ?? own[0])?.[0];
  };
  let cell = 'flips';

  function opened(replicate, text, chosen) {
    const [, question, more, gold, different, of] = text;
    const order = [...chosen, ...replicate.runs.keys()].filter((run, i, every) => run !== undefined && every.indexOf(run) === i);
    const rows = order.map((run) => {
      const [arm, seed] = replicate.runs[run];
      const several = replicate.runs.filter(([other]) => other === arm).length > 1;
      const who = make('th', { scope: 'row' }, foreign(armWords(arm)), several ? ' seed ' + seed : '');
      if (of[run] < 0) return make('tr', {}, who, make('td', { colspan: 3 }, verdict('-')));
      const [letter, extracted, reason, answer, left] = different[of[run]];
      return make('tr', { class: chosen.includes(run) ? 'chosen' : null }, who,
        make('td', {}, verdict(letter), reason ? make('p', { class: 'about' }, foreign(reason)) : null),
        make('td', {}, extracted ? make('code', {}, foreign(extracted)) : '–'),
        make('td', {}, make('p', { class: 'answer', dir: 'auto' }, answer || '(empty)'), moreBytes(left)));
    });
    return [
      make('p', { class: 'prompt', dir: 'auto' }, question, moreBytes(more)),
      gold ? make('p', { class: 'about' }, 'Right answer: ', make('code', {}, foreign(gold))) : null,
      make('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Answers of all arms' },
        make('table', { class: 'answers' },
          make('thead', {}, make('tr', {}, ...['arm', 'verdict', 'answer read', 'text'].map((head) => make('th', { scope: 'col' }, head)))),
          make('tbody', {}, ...rows))),
    ].filter(Boolean);
  }

  const show = list(byId('answers-items'), byId('answers-more'), ({ replicate, index, text, letters, chosen }) => {
    const id = replicate.problems[index];
    const summary = [make('strong', {}, foreign(id)), ' '];
    [selectA, selectB].forEach((select, i) => summary.push(make('span', { class: 'side' }, foreign(armName(+select.value)), ' ', verdict(letters[i])), ' '));
    if (text) summary.push(make('span', { class: 'preview' }, foreign(start(text[1], 160))));
    return item(summary, () => text ? opened(replicate, text, chosen) : [make('p', { class: 'missing' }, 'The texts of this problem are not in the page; they are in the run directory.')]);
  });

  function update() {
    const [r, seed] = (selectRun.value || '0/0').split('/').map(Number);
    const replicate = replicates[r];
    const [a, b] = [+selectA.value, +selectB.value];
    const chosen = [runOf(replicate, a, seed), runOf(replicate, b, seed)];
    const [lettersA, lettersB] = chosen.map((run) => replicate.runs[run]?.[2] ?? '');
    const texts = new Map(replicate.texts.map((text) => [text[0], text]));
    const cells = { both: [], a: [], b: [], neither: [] };
    replicate.problems.forEach((_, index) => {
      const letters = [lettersA[index] ?? '-', lettersB[index] ?? '-'];
      if (letters.includes('-')) return;
      const [x, y] = letters.map((letter) => letter === 'c');
      cells[x && y ? 'both' : x ? 'a' : y ? 'b' : 'neither'].push({ replicate, index, letters, chosen, text: texts.get(index) });
    });
    for (const pressed of all('#answers-tool [data-cell]')) {
      const name = pressed.dataset.cell;
      pressed.textContent = cells[name].length;
      pressed.setAttribute('aria-pressed', String(cell === name));
    }
    for (const side of ['right', 'not']) {
      byId('answers-a-' + side).textContent = armName(a);
      byId('answers-b-' + side).textContent = armName(b);
    }
    const wanted = find.value.toLowerCase();
    const holds = ({ index, text }) => !wanted || [replicate.problems[index], text?.[1], ...(text?.[4] ?? []).map((answer) => answer[3])]
      .some((part) => part?.toLowerCase().includes(wanted));
    const found = (cell === 'flips' ? [...cells.a, ...cells.b] : cells[cell]).filter(holds);
    found.sort((x, y) => !x.text - !y.text);
    const which = { flips: 'on which one of the two arms is right', both: 'that both get right', neither: 'that neither gets right', a: 'that only ' + armName(a) + ' gets right', b: 'that only ' + armName(b) + ' gets right' };
    byId('answers-found').textContent = found.length + (found.length === 1 ? ' problem ' : ' problems ') + which[cell] + (wanted ? ', with this text' : '') + '.';
    show(found);
  }
  for (const pressed of all('#answers-tool [data-cell]')) {
    pressed.addEventListener('click', () => { cell = cell === pressed.dataset.cell ? 'flips' : pressed.dataset.cell; update(); });
  }
  for (const control of [selectA, selectB, selectRun]) control.addEventListener('change', update);
  find.addEventListener('input', update);
  byId('answers-note').textContent = note;
  byId('answers-tool').hidden = false;
  update();
}

let openArm = () => {};
function rowsTool() {
  const { rows, prompts, note } = data.rows;
  const [selectStudent, selectArm, selectVerdict, selectOrder, find] = ['student', 'arm', 'verdict', 'order', 'find'].map((name) => byId('rows-' + name));
  const arms = [...new Set(rows.map((row) => row[1]))].sort((a, b) => a - b);
  const several = data.students.length > 1;
  const text = (row) => row[10].map(([, pieces]) => pieces.map(([piece]) => piece).join('')).join('');
  const perToken = (row) => row[6] ? row[7] / row[6] : NaN;
  const nats = (row) => row[6] ? perToken(row).toFixed(2) + ' nats/token' : 'not scored';
  choose(selectStudent, data.students.map((name, i) => [i, name]));
  choose(selectArm, arms.map((arm) => [arm, armWords(arm)]));
  choose(selectVerdict, [['', 'all'], ...[...new Set(rows.map((row) => row[4]))].filter(Boolean).map((name) => [name, name])]);
  choose(selectOrder, [['', 'as drawn'], ['near', 'least surprising first'], ['far', 'most surprising first'], ['long', 'longest first']]);

  function pane(row) {
    return make('article', { class: 'pane' },
      make('h3', {}, 'Arm ', foreign(armWords(row[1])), several ? ' · ' : null, several ? foreign(data.students[row[0]]) : null),
      make('p', { class: 'about' }, 'verdict: ', make('strong', {}, row[4] || 'none'), row[5] ? ' (' : null, row[5] ? foreign(row[5]) : null, row[5] ? ')' : null, ' · ' + row[6] + ' tokens, ' + nats(row)),
      ...tokens(row));
  }
  function opened(row) {
    const others = rows.filter((other) => other !== row && other[2] === row[2]);
    const beside = make('div', { class: 'panes' }, pane(row));
    const parts = [];
    if (others.length) {
      // The same trace under another student tells more than another arm's.
      const first = others.find((other) => other[0] !== row[0] && other[1] === row[1]) ?? others[0];
      const select = make('select', {}, ...others.map((other, i) => make('option', { value: i }, armWords(other[1]) + (several ? ' · ' + data.students[other[0]] : ''))));
      select.value = String(others.indexOf(first));
      beside.append(pane(first));
      select.addEventListener('change', () => beside.lastChild.replaceWith(pane(others[+select.value])));
      parts.push(make('div', { class: 'controls' }, make('label', {}, make('span', {}, 'Beside it'), select)));
    }
    return [make('p', { class: 'prompt', dir: 'auto' }, prompts[row[3]]), ...parts, beside];
  }
  const show = list(byId('rows-items'), byId('rows-more'), (row) => item([
    make('strong', {}, foreign(row[2])), ' ',
    make('span', { class: 'side' }, row[4] || 'no verdict', ' · ' + nats(row)), ' ',
    make('span', { class: 'preview' }, foreign(start(text(row), 160))),
  ], () => opened(row)));

  function update() {
    const wanted = find.value.toLowerCase();
    const of = rows.filter((row) => row[0] === +selectStudent.value && row[1] === +selectArm.value);
    const found = of.filter((row) => (!selectVerdict.value || row[4] === selectVerdict.value)
      && (!wanted || [row[2], prompts[row[3]], text(row), row[5]].some((part) => part.toLowerCase().includes(wanted))));
    const key = { near: perToken, far: (row) => -perToken(row), long: (row) => -row[6] }[selectOrder.value];
    if (key) found.sort((a, b) => isNaN(key(a)) - isNaN(key(b)) || key(a) - key(b));
    byId('rows-found').textContent = (found.length === of.length ? '' : found.length + ' of ') + of.length + (of.length === 1 ? ' row' : ' rows') + ' of arm ' + armWords(+selectArm.value) + '.';
    show(found);
  }
  for (const control of [selectStudent, selectArm, selectVerdict, selectOrder]) control.addEventListener('change', update);
  find.addEventListener('input', update);
  byId('rows-note').textContent = note;
  byId('rows-tool').hidden = false;
  update();
  openArm = (arm) => {
    selectArm.value = String(arm);
    selectVerdict.value = find.value = '';
    update();
    selectArm.focus({ preventScroll: true });
    byId('rows-tool').scrollIntoView({ block: 'start' });
  };
  // An arm's name at the head of a table's row opens its training rows.
  const named = new Map(arms.map((arm) => [armWords(arm), arm]));
  for (const name of all('figure.table tbody th bdi')) {
    const arm = named.get(name.textContent);
    if (arm !== undefined) name.replaceWith(button(foreign(name.textContent), () => openArm(arm), { class: 'open', title: 'Show its training rows' }));
  }
}

document.body.append(spoken, tip);
document.body.classList.add('scripted');
if (data.answers) answersTool();
if (data.rows) rowsTool();
for (const section of all('main > section[hidden], nav li[hidden]')) section.hidden = false;
all('figure.table').forEach(table);
all('figure[id^="figure-"]').forEach(figure);
