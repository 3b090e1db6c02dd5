'use strict';
// What the scripts of all pages share: elements, lists that are filled as they are opened, and traces
// token by token. All text is set as text.
const byId = (id) => document.getElementById(id);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const data = JSON.parse(byId('data').textContent);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}
const foreign = (text) => make('bdi', {}, text);
const button = (text, action, more) => make('button', { type: 'button', onclick: action, ...more }, text);

function choose(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => make('option', { value }, text)));
  if (chosen !== undefined) select.value = String(chosen);
  select.parentElement.hidden = options.length < 2;
}

// Items of a long list, some at a time.
function list(place, moreButton, render) {
  const STEP = 20;
  let items = [];
  let shown = 0;
  function more() {
    place.append(...items.slice(shown, shown + STEP).map(render));
    shown = Math.min(shown + STEP, items.length);
    moreButton.hidden = shown >= items.length;
  }
  moreButton.addEventListener('click', more);
  return (found) => { items = found; shown = 0; place.replaceChildren(); more(); };
}

// An item that is filled when it is opened.
function item(summary, fill) {
  const details = make('details', { class: 'item' }, make('summary', {}, ...summary));
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) details.append(...fill());
  });
  return details;
}
const moreBytes = (bytes) => bytes > 0 ? make('span', { class: 'about' }, ' … and ' + bytes + ' more bytes') : null;
const start = (text, most) => text.length > most ? text.slice(0, most) + '…' : text;

// A trace as the page draws it: shades, numbers from one nat on, steps, what is not trained on.
function tokens([, , , , , , , , end, more, steps]) {
  const shade = (nats) => data.shades.filter((from) => nats >= from).length;
  const token = ([text, nats, rank, masked]) => {
    const level = nats < 0 ? -nats : shade(nats ?? 0);
    const span = make('span', { class: 't h' + level + (masked ? ' masked' : '') });
    const known = nats != null && nats >= 0;
    if (known) span.title = nats.toFixed(2) + ' nats' + (rank ? ', rank ' + rank : '') + (masked ? ', not trained on' : '');
    span.append(known && nats >= 1 && text.trim() ? make('ruby', {}, text, make('rt', {}, nats.toFixed(1))) : text);
    return span;
  };
  const trace = make('p', { class: 'trace', dir: 'ltr' });
  for (const [check, pieces] of steps) {
    const spans = pieces.map(token);
    const mark = { valid: '✓', invalid: '✗', unchecked: '·' }[check];
    if (mark) trace.append(make('span', { class: 'step ' + check }, ...spans, make('span', { class: 'mark', role: 'img', 'aria-label': check }, mark)));
    else trace.append(...spans);
  }
  if (end != null) trace.append(' ', make('span', { class: 't end h' + shade(end), title: 'end of text: ' + end.toFixed(2) + ' nats' }, 'end ' + end.toFixed(1)));
  return [trace, moreBytes(more)];
}
