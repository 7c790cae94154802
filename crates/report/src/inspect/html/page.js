'use strict';
// Everything here adds to a page that reads well without it: treemap, histograms, sorting, filter.
(() => {
  const root = document.documentElement;
  root.classList.add('js');
  const data = JSON.parse(document.getElementById('data').textContent);
  const weights = data.weights;
  const svgSpace = 'http://www.w3.org/2000/svg';
  const byId = (id) => document.getElementById(id);

  // Elements are made from text nodes and attributes only: names come from files of others.
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const draw = (tag, attributes, ...children) => {
    const element = document.createElementNS(svgSpace, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const scaled = (value, units) => {
    let unit = 0;
    while (value >= 999.5 && unit + 1 < units.length) { value /= 1000; unit += 1; }
    const digits = unit === 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    return `${value.toFixed(digits)} ${units[unit]}`.trim();
  };
  const size = (bytes) => scaled(bytes, ['B', 'kB', 'MB', 'GB', 'TB']);
  const count = (value) => value < 10000 ? String(value) : scaled(value, ['', 'k', 'M', 'G', 'T']);
  const number = (value) => {
    if (value === null) return 'not finite';
    const magnitude = Math.abs(value);
    if (magnitude === 0) return '0';
    if (magnitude < 0.001 || magnitude >= 1e6) return value.toExponential(2).replace('-', '−').replace('e−', 'e-');
    return String(Number(value.toPrecision(4))).replace('-', '−');
  };
  const percent = (part) => part >= 0.0995 ? `${(part * 100).toFixed(0)} %` : `${(part * 100).toFixed(1)} %`;
  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  // ---- treemap -------------------------------------------------------------------------------

  // Squarified: rows along the shorter side, each grown as long as its worst tile gets squarer.
  const squarify = (items, x, y, width, height, place) => {
    const total = items.reduce((sum, item) => sum + item.bytes, 0);
    if (total <= 0 || width <= 0 || height <= 0) return;
    const scale = width * height / total;
    let start = 0;
    while (start < items.length) {
      const side = Math.min(width, height);
      let end = start;
      let sum = 0;
      let worst = Infinity;
      while (end < items.length) {
        const area = items[end].bytes * scale;
        const next = sum + area;
        const thick = next / side;
        const largest = items[start].bytes * scale;
        const ratio = Math.max(largest / (thick * thick), thick * thick / Math.max(area, 1e-9));
        if (end > start && ratio > worst) break;
        worst = ratio;
        sum = next;
        end += 1;
      }
      const thick = sum / side;
      let along = 0;
      for (let index = start; index < end; index += 1) {
        const length = items[index].bytes * scale / thick;
        if (width >= height) place(items[index], x, y + along, thick, length);
        else place(items[index], x + along, y, length, thick);
        along += length;
      }
      if (width >= height) { x += thick; width -= thick; } else { y += thick; height -= thick; }
      start = end;
    }
  };

  const groups = (() => {
    const found = new Map();
    weights.forEach((weight, index) => {
      const key = weight.layer !== null ? `layer ${weight.layer}` : weight.role;
      if (!found.has(key)) found.set(key, { name: key, bytes: 0, items: [] });
      const group = found.get(key);
      group.bytes += weight.bytes;
      group.items.push({ bytes: weight.bytes, weight, index });
    });
    const extra = (name, bytes, role) => {
      if (bytes > 0) found.set(name, { name, bytes, items: [{ bytes, role, label: name }] });
    };
    extra('program', data.program, 'program');
    extra('unused', data.unused, 'unused');
    extra('smaller weights', data.rest, 'other');
    const list = [...found.values()].filter((group) => group.bytes > 0);
    list.forEach((group) => group.items.sort((a, b) => b.bytes - a.bytes));
    return list.sort((a, b) => b.bytes - a.bytes);
  })();
  const totalBytes = groups.reduce((sum, group) => sum + group.bytes, 0);

  // Names in a group mostly begin alike; a tile shows what is its own.
  const short = (name) => {
    const match = name.match(/(?:layers?|blocks?|h)[^A-Za-z0-9]\d+[^A-Za-z0-9](.+)$/);
    const own = match ? match[1] : name;
    return own.replace(/^(?:model[_.])+/, '').replace(/[_.]weight$/, '').replace(/^self_attn_|^mlp_|^attn_/, '').replace(/_proj$/, '');
  };
  const ruler = document.createElement('canvas').getContext('2d');
  const fit = (text, room, font) => {
    ruler.font = `${font} ${getComputedStyle(root).getPropertyValue('--sans')}`;
    if (ruler.measureText(text).width <= room) return text;
    let kept = text.length - 1;
    while (kept > 2 && ruler.measureText(`${text.slice(0, kept)}…`).width > room) kept -= 1;
    return kept > 2 ? `${text.slice(0, kept)}…` : '';
  };

  const map = byId('treemap');
  let mode = 'role';
  let current = 0;
  const mix = (part) => {
    const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const low = channels(color('bits-low'));
    const high = channels(color('bits-high'));
    return low.map((value, index) => Math.round(value + (high[index] - value) * part));
  };
  const paint = () => {
    const width = map.clientWidth;
    const height = map.clientHeight;
    if (!width || !totalBytes) return;
    const picture = draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': 'Sizes of all weights as areas; arrow keys move' });
    let number = 0;
    squarify(groups, 0, 0, width, height, (group, gx, gy, gw, gh) => {
      const gap = gw > 12 && gh > 12 ? 2 : 0.5;
      const header = gw > 52 && gh > 46 && group.items.length > 1 ? 18 : 0;
      picture.append(draw('rect', { class: 'group', x: gx + gap / 2, y: gy + gap / 2, width: Math.max(0, gw - gap), height: Math.max(0, gh - gap), rx: 3 }));
      if (header) {
        const full = `${group.name}  ${size(group.bytes)}`;
        const whole = fit(full, gw - 12, '600 12px');
        const brief = group.name.replace(/^layer /, '');
        const text = whole === full ? full
          : fit(group.name, gw - 12, '600 12px') === group.name ? group.name : fit(brief, gw - 12, '600 12px');
        picture.append(draw('text', { class: 'group', x: gx + gap / 2 + 5, y: gy + 14 }, text));
      }
      const inset = header ? 3 : 0;
      squarify(group.items, gx + gap / 2 + inset, gy + gap / 2 + header, gw - gap - 2 * inset, gh - gap - header - inset, (item, x, y, w, h) => {
        const space = w > 5 && h > 5 ? 1 : 0.2;
        const tile = draw('g', { class: item.weight ? 'tile' : 'tile still', tabindex: number === current ? 0 : -1, 'data-number': number });
        const rect = draw('rect', { x: x + space / 2, y: y + space / 2, width: Math.max(0.3, w - space), height: Math.max(0.3, h - space), rx: Math.min(w, h) > 12 ? 2 : 0 });
        let dark = false;
        if (mode === 'role' || !item.weight) {
          rect.setAttribute('class', item.weight ? item.weight.role : item.role);
          dark = item.role === 'unused';
        } else {
          const part = Math.min(1, Math.log2(Math.max(1, item.weight.bits)) / 4);
          const [r, g, b] = mix(part);
          rect.setAttribute('fill', `rgb(${r} ${g} ${b})`);
          dark = r * 0.3 + g * 0.59 + b * 0.11 > 140;
        }
        const name = item.weight ? short(item.weight.name) : item.label;
        const label = item.weight
          ? `${item.weight.name}, ${size(item.bytes)}, ${item.weight.form}`
          : `${item.label}, ${size(item.bytes)}`;
        tile.setAttribute('role', item.weight ? 'button' : 'img');
        tile.setAttribute('aria-label', label);
        tile.append(rect);
        if (w > 44 && h > 19) {
          const shown = fit(name, w - 9, '11.5px');
          const shade = dark ? 'dark' : '';
          if (shown) tile.append(draw('text', { class: shade, x: x + 5, y: y + 14 }, shown));
          const bytes = shown && h > 36 ? fit(size(item.bytes), w - 9, '11.5px') : '';
          if (bytes.endsWith('B')) tile.append(draw('text', { class: `size ${shade}`, x: x + 5, y: y + 28 }, bytes));
        }
        tile.item = item;
        picture.append(tile);
        number += 1;
      });
    });
    map.classList.toggle('bits', mode === 'bits');
    map.replaceChildren(picture);
  };

  const tip = byId('tip');
  const showTip = (tile, x, y) => {
    const { weight, bytes, label } = tile.item;
    const lines = [make('b', {}, weight ? weight.name : label)];
    const share = `${size(bytes)}, ${percent(bytes / totalBytes)} of all`;
    lines.push(make('span', {}, share));
    if (weight) lines.push(make('br'), make('span', {}, `${weight.shape}, ${weight.form}, ${weight.bits.toFixed(2)} bits per value`));
    tip.replaceChildren(...lines);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18}px`;
  };
  const hideTip = () => { tip.hidden = true; };
  const tileOf = (event) => event.target.closest ? event.target.closest('.tile') : null;
  map.addEventListener('pointermove', (event) => {
    const tile = tileOf(event);
    if (tile) showTip(tile, event.clientX, event.clientY); else hideTip();
  });
  map.addEventListener('pointerleave', hideTip);
  map.addEventListener('focusin', (event) => {
    const tile = tileOf(event);
    if (!tile) return;
    const box = tile.getBoundingClientRect();
    if (tile.matches(':focus-visible')) showTip(tile, box.left, box.bottom - 12);
  });
  map.addEventListener('focusout', hideTip);
  const go = (tile) => {
    if (!tile || !tile.item.weight) return;
    hideTip();
    const row = rows.find((candidate) => candidate.index === tile.item.index);
    byId('filter').value = '';
    filter();
    toggle(row, true);
    row.element.scrollIntoView({ block: 'center' });
    row.element.querySelector('.name').focus({ preventScroll: true });
  };
  map.addEventListener('click', (event) => go(tileOf(event)));
  map.addEventListener('keydown', (event) => {
    const tiles = [...map.querySelectorAll('.tile')];
    const at = tiles.indexOf(document.activeElement);
    if (at < 0) return;
    if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); go(tiles[at]); return; }
    if (event.key === 'Escape') { hideTip(); return; }
    const here = tiles[at].getBoundingClientRect();
    const middle = (box) => [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
    const direction = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!direction) return;
    event.preventDefault();
    const [cx, cy] = middle(here);
    let best = null;
    let least = Infinity;
    for (const tile of tiles) {
      const [x, y] = middle(tile.getBoundingClientRect());
      const along = (x - cx) * direction[0] + (y - cy) * direction[1];
      const across = Math.abs((x - cx) * direction[1]) + Math.abs((y - cy) * direction[0]);
      const distance = along + 2 * across;
      if (along > 1 && distance < least) { least = distance; best = tile; }
    }
    if (!best) return;
    tiles[at].setAttribute('tabindex', -1);
    best.setAttribute('tabindex', 0);
    current = Number(best.dataset.number);
    best.focus();
  });
  document.querySelectorAll('.switch input').forEach((input) => input.addEventListener('change', () => {
    mode = input.value;
    root.classList.toggle('by-bits', mode === 'bits');
    paint();
  }));
  let painted = 0;
  const repaint = () => {
    if (map.clientWidth !== painted) { painted = map.clientWidth; paint(); }
  };
  // At once: a busy machine may take long to the first frame, which the observer waits for.
  repaint();
  new ResizeObserver(repaint).observe(map);

  // ---- weights -------------------------------------------------------------------------------

  const body = document.querySelector('#weights tbody');
  const rows = body ? [...body.rows].map((element) => {
    const index = Number(element.dataset.index);
    return { element, index, weight: weights[index], detail: null };
  }) : [];

  const spark = (canvas, histogram) => {
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [96, 26];
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext('2d');
    context.scale(scale, scale);
    context.fillStyle = color('accent');
    const most = Math.max(...histogram);
    const step = width / histogram.length;
    histogram.forEach((value, bin) => {
      const tall = value > 0 ? Math.max(1, value / most * (height - 1)) : 0;
      context.fillRect(bin * step, height - tall, Math.max(0.8, step - 0.35), tall);
    });
  };
  // Drawn when they come into view, so that long lists open quickly.
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      const { histogram } = weights[Number(target.closest('tr').dataset.index)];
      if (histogram && histogram.length) spark(target, histogram);
    }
  }, { rootMargin: '200px' });
  const watch = () => document.querySelectorAll('#weights canvas').forEach((canvas) => watcher.observe(canvas));
  watch();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { paint(); watch(); });

  const histogramOf = (weight) => {
    const { histogram, smallest, largest } = weight;
    const [width, height, floor] = [640, 190, 168];
    const picture = draw('svg', { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `Histogram of ${weight.name}: values from ${number(smallest)} to ${number(largest)}` });
    const most = Math.max(...histogram);
    const step = width / histogram.length;
    histogram.forEach((value, bin) => {
      const tall = value > 0 ? Math.max(1, value / most * (floor - 6)) : 0;
      const low = smallest + (largest - smallest) * bin / histogram.length;
      const high = smallest + (largest - smallest) * (bin + 1) / histogram.length;
      picture.append(draw('rect', { x: bin * step + 0.5, y: floor - tall, width: Math.max(1, step - 1), height: tall },
        draw('title', {}, `${number(low)} to ${number(high)}: ${count(value)} values`)));
    });
    picture.append(draw('line', { x1: 0, x2: width, y1: floor + 0.5, y2: floor + 0.5 }));
    return picture;
  };
  const axis = (weight) => {
    const line = make('div', { class: 'axis' });
    const middle = weight.smallest < 0 && weight.largest > 0 ? 0 : (weight.smallest + weight.largest) / 2;
    for (const value of [weight.smallest, middle, weight.largest]) line.append(make('span', {}, number(value)));
    const at = (middle - weight.smallest) / (weight.largest - weight.smallest || 1);
    line.children[1].style.left = `${Math.min(88, Math.max(12, at * 100))}%`;
    return line;
  };

  const pairs = (entries) => {
    const list = make('dl');
    for (const [key, value] of entries) list.append(make('dt', {}, key), make('dd', {}, value));
    return list;
  };
  const detail = (weight) => {
    const grid = make('div', { class: 'grid' });
    const figure = make('figure');
    if (weight.histogram && weight.histogram.length) {
      figure.append(histogramOf(weight), axis(weight));
    } else {
      figure.append(make('p', { class: 'soft' }, weight.problem || 'There are no finite values to show.'));
    }
    const facts = [['values', count(weight.elements)], ['uses', String(weight.uses)], ['functions', weight.functions.join(', ')]];
    if (weight.finite) {
      facts.push(['range', `${number(weight.smallest)} to ${number(weight.largest)}`],
        ['mean', number(weight.mean)], ['deviation', number(weight.deviation)],
        ['zeros', weight.zeros ? `${count(weight.zeros)} (${percent(weight.zeros / weight.elements)})` : 'none']);
    }
    if (weight.nan || weight.infinite) facts.push(['not finite', `${count(weight.nan)} NaN, ${count(weight.infinite)} infinite`]);
    if (weight.tables) {
      const [tables, entries, length, fewest, most, used, low, high, entropy] = weight.tables;
      facts.push(['lookup tables', `${count(tables)} of ${entries} entries${length > 1 ? ` of ${length} values` : ''}`],
        ['entries used', `${fewest === most ? most : `${fewest} to ${most}`} per table, ${percent(used / Math.max(1, tables * entries))} of all`],
        ['entry range', `${number(low)} to ${number(high)}`],
        ['information', `${entropy.toFixed(2)} bits per index`]);
    }
    for (const [holder, type, shape, bytes, offset] of weight.parts) {
      facts.push([holder.replace(/constexpr_/g, ''), `${type} ${shape}, ${size(bytes)}${offset === null ? ', in the program' : ` at ${offset}`}`]);
    }
    grid.append(figure, pairs(facts));
    return make('tr', { class: 'detail' }, (() => {
      const cell = make('td', { colspan: 7 });
      cell.append(grid);
      return cell;
    })());
  };
  const toggle = (row, open) => {
    const show = open === undefined ? !row.detail : open;
    if (show === Boolean(row.detail)) return;
    row.element.classList.toggle('open', show);
    row.element.querySelector('.name').setAttribute('aria-expanded', show);
    if (show) {
      row.detail = detail(row.weight);
      row.element.after(row.detail);
    } else {
      row.detail.remove();
      row.detail = null;
    }
  };
  rows.forEach((row) => row.element.addEventListener('click', () => {
    // A drag that marks text is no click on the row.
    if (!String(getSelection())) toggle(row);
  }));

  const shown = byId('shown');
  const filter = () => {
    if (!body) return;
    const words = byId('filter').value.toLowerCase().split(/\s+/).filter(Boolean);
    let visible = 0;
    for (const row of rows) {
      const text = `${row.weight.name} ${row.weight.form} ${row.weight.role} ${row.weight.functions.join(' ')}`.toLowerCase();
      const match = words.every((word) => text.includes(word));
      if (!match) toggle(row, false);
      row.element.hidden = !match;
      visible += match ? 1 : 0;
    }
    shown.textContent = words.length ? `${visible} of ${rows.length}` : '';
  };
  if (body) byId('filter').addEventListener('input', filter);

  const keys = {
    name: (weight) => weight.name, size: (weight) => weight.bytes, bits: (weight) => weight.bits,
    shared: (weight) => weight.functions.length, values: (weight) => weight.elements,
  };
  document.querySelectorAll('#weights th[data-key]').forEach((head) => {
    const button = make('button', { class: 'sort', type: 'button' }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const key = keys[head.dataset.key];
      const first = head.dataset.key === 'name' ? 'ascending' : 'descending';
      const second = first === 'ascending' ? 'descending' : 'ascending';
      const order = head.getAttribute('aria-sort') === first ? second : first;
      document.querySelectorAll('#weights th').forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', order);
      const sign = order === 'ascending' ? 1 : -1;
      const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      rows.sort((a, b) => sign * compare(key(a.weight), key(b.weight)) || a.index - b.index);
      for (const row of rows) {
        body.append(row.element);
        if (row.detail) body.append(row.detail);
      }
    });
  });

  // ---- navigation ----------------------------------------------------------------------------

  const links = [...document.querySelectorAll('nav a')];
  const sections = links.map((link) => document.querySelector(link.getAttribute('href')));
  const mark = () => {
    let here = 0;
    sections.forEach((section, index) => { if (section.getBoundingClientRect().top < innerHeight * 0.3) here = index; });
    if (innerHeight + scrollY >= document.body.scrollHeight - 4 && scrollY > 0) here = links.length - 1;
    links.forEach((link, index) => {
      link.classList.toggle('here', index === here);
      if (index === here) link.setAttribute('aria-current', 'true'); else link.removeAttribute('aria-current');
    });
  };
  addEventListener('scroll', mark, { passive: true });
  mark();
})();
