// Tables of a served page, and downloads of any: tables as CSV, figures as PNG, SVG or a page of
// their own. Nothing is sent.
(() => {
  const add = (parent, tag, text, isLong) => {
    const part = parent.appendChild(document.createElement(tag));
    if (text !== undefined) part.textContent = text;
    if (isLong) part.className = 'long';
    return part;
  };

  const fill = (box) => {
    const {head, rows, long} = JSON.parse(box.dataset.table);
    const table = document.createElement('table');
    const first = add(add(table, 'thead'), 'tr');
    for (const text of head) add(first, 'th', text).scope = 'col';
    const body = add(table, 'tbody');
    for (const row of rows) {
      const line = add(body, 'tr');
      for (const text of row) add(line, 'td', text, text.length > long);
    }
    box.replaceChildren(table);
  };

  new MutationObserver((changes) => {
    for (const {type, target, addedNodes} of changes) {
      if (type === 'attributes') fill(target);
      for (const node of addedNodes) {
        if (node.nodeType !== Node.ELEMENT_NODE) continue;
        if (node.matches('[data-table]')) fill(node);
        node.querySelectorAll('[data-table]').forEach(fill);
      }
    }
  }).observe(document, {childList: true, subtree: true, attributeFilter: ['data-table']});

  const PAPER = '#ffffff', INK = '#1b1f24';

  const save = (parts, type, file) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(parts, {type}));
    link.download = file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  // A figure on its own has no page around it: it gets a ground and an ink.
  const alone = (plot) => {
    const layout = {...plot.layout, paper_bgcolor: PAPER, plot_bgcolor: PAPER};
    layout.font = {...layout.font, color: INK};
    return {data: plot.data, layout, config: {responsive: true}};
  };

  const scriptText = async () => {
    const inside = document.getElementById('plotly-js');
    if (inside) return inside.textContent;
    const loaded = [...document.scripts].find((script) => script.src.includes('plotly.min'));
    return (await fetch(loaded.src)).text();
  };

  const pageOf = async (plot, name) => {
    const {data, layout, config} = alone(plot);
    delete layout.width;
    const plain = (_, value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
    const figure = JSON.stringify([data, layout, config], plain).replaceAll('<', '\\u003c');
    return [
      '<!doctype html><html lang="en"><head><meta charset="utf-8">',
      `<link rel="icon" href="data:,"><title>${name}</title></head><body><div id="figure"></div>`,
      '<script>', await scriptText(), '<\/script>',
      `<script>Plotly.newPlot('figure', ...${figure})<\/script></body></html>`,
    ];
  };

  document.addEventListener('click', async (event) => {
    const button = event.target.closest('button[data-save]');
    if (!button) return;
    const {save: format, name} = button.dataset;
    if (format === 'csv') return save([button.dataset.csv], 'text/csv;charset=utf-8', `${name}.csv`);
    const plot = button.closest('figure').querySelector('.js-plotly-plot');
    if (format === 'html') return save(await pageOf(plot, name), 'text/html', `${name}.html`);
    const {width, height} = plot.getBoundingClientRect();
    const scale = format === 'png' ? 2 : 1;
    Plotly.downloadImage(alone(plot), {format, width, height, scale, filename: name});
  });
})();
