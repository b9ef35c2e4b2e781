// A click on a heading sorts the table by its column, a second one the other way round.
const body = document.querySelector('tbody');
const headings = [...document.querySelectorAll('thead th')];

function compare(one, other) {
  const numbers = [Number(one), Number(other)];
  if (numbers.every(Number.isFinite)) return numbers[0] - numbers[1];
  return one.localeCompare(other);
}

headings.forEach((heading, column) => {
  heading.querySelector('button').addEventListener('click', () => {
    const falls = heading.getAttribute('aria-sort') === 'ascending';
    headings.forEach((other) => other.removeAttribute('aria-sort'));
    heading.setAttribute('aria-sort', falls ? 'descending' : 'ascending');
    const rows = [...body.rows].sort(
      (a, b) => compare(a.cells[column].textContent, b.cells[column].textContent));
    body.replaceChildren(...(falls ? rows.reverse() : rows));
  });
});

document.getElementById('copy').addEventListener('click', () => {
  const command = document.getElementById('command');
  if (navigator.clipboard) {
    navigator.clipboard.writeText(command.textContent);
  } else {
    getSelection().selectAllChildren(command);
  }
});
