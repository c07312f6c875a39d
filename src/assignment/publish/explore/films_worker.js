// Likes, cost, optimisers and neighbours, as the package has them. This text knows no page: the
// page runs it, and so does a worker that the page makes from it (see the last lines).
"use strict";

const DIVERGED = 10; // a run ends where its loss is so many times the first
const MOMENTUM = 0.9;
const MOST_STEPS = 1000;

// --- likes ---------------------------------------------------------------------------------------

// The ratings from a threshold on as likes. Films and users that have none are left out; the others
// keep their order, so a film's column is its place among `movies`, which is by movieId.
function buildLikes(ratings, threshold) {
  const enough = ratings.halfStars.map(stars => stars >= 2 * threshold);
  const rowOf = numberUsed(ratings.users, enough), columnOf = numberUsed(ratings.movies, enough);
  const likes = [];
  for (let k = 0; k < enough.length; k++) {
    if (enough[k]) likes.push([rowOf.get(ratings.users[k]), columnOf.get(ratings.movies[k])]);
  }
  const byUser = groupPairs(likes, rowOf.size);
  const byFilm = groupPairs(likes.map(([row, column]) => [column, row]), columnOf.size);
  const n = Float64Array.from({ length: columnOf.size }, (_, i) => group(byFilm, i).length);
  const made = { threshold, byUser, byFilm, n, columnOf, movies: [...columnOf.keys()] };
  return { ...made, constant: sumOfSquaredColikes(made) }; // ||X||^2, the cost of V = 0
}

function numberUsed(names, enough) {
  const used = new Set(names.filter((_, k) => enough[k]));
  return new Map([...used].sort((a, b) => a - b).map((name, place) => [name, place]));
}

// The second of each pair, grouped by the first: group g is `members` from starts[g] to starts[g + 1].
function groupPairs(pairs, groups) {
  const starts = new Uint32Array(groups + 1), members = new Uint32Array(pairs.length);
  for (const [first] of pairs) starts[first + 1] += 1;
  for (let g = 0; g < groups; g++) starts[g + 1] += starts[g];
  const next = starts.slice();
  for (const [first, second] of pairs) members[next[first]++] = second;
  return { starts, members };
}

const group = ({ starts, members }, g) => members.subarray(starts[g], starts[g + 1]);

// How many users liked both a film and each other one: a row of X, its diagonal included.
function countColikes(likes, column) {
  const counts = new Float64Array(likes.n.length);
  for (const user of group(likes.byFilm, column)) {
    for (const other of group(likes.byUser, user)) counts[other] += 1;
  }
  return counts;
}

function sumOfSquaredColikes(likes) {
  let total = 0;
  for (let i = 0; i < likes.n.length; i++) {
    total -= likes.n[i] ** 2;
    for (const both of countColikes(likes, i)) total += both * both;
  }
  return total;
}

// --- cost and gradient ---------------------------------------------------------------------------

// The cost sum (v_i . v_j - X_ij)^2 over i != j of vectors V [films, dim], row by row in one array;
// its gradient is written into `gradient`. With A the likes and n those of each film:
//
//     cost     = ||V'V||^2 - sum ||v_i||^4 - 2 (||A V||^2 - sum n_i ||v_i||^2) + ||X||^2
//     gradient = 4 (V (V'V) - A'(A V) + (n_i - ||v_i||^2) v_i)
function costAndGradient(likes, V, dim, gradient) {
  const films = likes.n.length, gram = gramMatrix(V, films, dim);
  const AV = sumRows(likes.byUser, V, dim, new Float64Array((likes.byUser.starts.length - 1) * dim));
  sumRows(likes.byFilm, AV, dim, gradient);
  let cost = likes.constant + squaredNorm(gram) - 2 * squaredNorm(AV);
  for (let i = 0; i < films; i++) {
    const v = V.subarray(i * dim, (i + 1) * dim), square = squaredNorm(v), n = likes.n[i];
    cost += 2 * n * square - square * square;
    for (let a = 0; a < dim; a++) {
      let sum = (n - square) * v[a] - gradient[i * dim + a];
      for (let b = 0; b < dim; b++) sum += v[b] * gram[b * dim + a];
      gradient[i * dim + a] = 4 * sum;
    }
  }
  return cost;
}

function gramMatrix(V, films, dim) {
  const gram = new Float64Array(dim * dim);
  for (let start = 0; start < films * dim; start += dim) {
    for (let a = 0; a < dim; a++) {
      for (let b = 0; b <= a; b++) gram[a * dim + b] += V[start + a] * V[start + b];
    }
  }
  for (let a = 0; a < dim; a++) {
    for (let b = 0; b < a; b++) gram[b * dim + a] = gram[a * dim + b];
  }
  return gram;
}

function sumRows(groups, rows, dim, sums) {
  sums.fill(0);
  for (let g = 0; g + 1 < groups.starts.length; g++) {
    for (let k = groups.starts[g]; k < groups.starts[g + 1]; k++) {
      const from = groups.members[k] * dim;
      for (let a = 0; a < dim; a++) sums[g * dim + a] += rows[from + a];
    }
  }
  return sums;
}

function squaredNorm(numbers) {
  let sum = 0;
  for (let k = 0; k < numbers.length; k++) sum += numbers[k] * numbers[k];
  return sum;
}

// --- training ------------------------------------------------------------------------------------

// Where a quadratic stops being stable, in units of the largest stable step of gradient descent.
const STABLE = {
  sgd: 1, momentum: 1 + MOMENTUM, nesterov: (1 + MOMENTUM) / (1 + 2 * MOMENTUM), adam: Infinity,
};

// A function that takes one step, changing V; each optimiser is as PyTorch defines it.
function buildOptimiser(name, lr, size) {
  const mean = new Float64Array(size);
  if (name === "adam") {
    const square = new Float64Array(size);
    let steps = 0;
    return (V, gradient) => {
      steps += 1;
      const first = 1 - 0.9 ** steps, second = 1 - 0.999 ** steps;
      for (let k = 0; k < size; k++) {
        mean[k] = 0.9 * mean[k] + 0.1 * gradient[k];
        square[k] = 0.999 * square[k] + 0.001 * gradient[k] ** 2;
        V[k] -= lr * (mean[k] / first) / (Math.sqrt(square[k] / second) + 1e-8);
      }
    };
  }
  const beta = name === "sgd" ? 0 : MOMENTUM, ahead = name === "nesterov";
  return (V, gradient) => {
    for (let k = 0; k < size; k++) {
      mean[k] = beta * mean[k] + gradient[k];
      V[k] -= lr * (ahead ? gradient[k] + beta * mean[k] : mean[k]);
    }
  };
}

// Small normal numbers, the same for the same seed: Marsaglia's xorshift, then Box and Muller.
function randomStart(size, seed, scale = 0.1) {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1;
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) + 0.5) / 2 ** 32;
  };
  for (let k = 0; k < 20; k++) uniform(); // forgets how alike two seeds are
  return Float64Array.from({ length: size }, () =>
    scale * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

// A run from random vectors, or from those given; losses[k] is the cost after k steps.
function beginRun(likes, { dim, optimiser, lr, seed, start }) {
  const V = start ?? randomStart(likes.n.length * dim, seed), gradient = new Float64Array(V.length);
  const move = buildOptimiser(optimiser, lr, V.length);
  const run = { V, dim, losses: [costAndGradient(likes, V, dim, gradient)], diverged: false };
  run.step = () => {
    move(V, gradient);
    const loss = costAndGradient(likes, V, dim, gradient);
    run.diverged = !(loss <= DIVERGED * run.losses[0]);
    run.losses.push(loss);
  };
  return run;
}

// --- neighbours ----------------------------------------------------------------------------------

// The inner product, or the cosine, of a row of V with every row; of a film without a direction,
// and of the film itself, it is -Infinity.
function scoreVectors(V, dim, column, cosine) {
  const query = V.subarray(column * dim, (column + 1) * dim), own = Math.sqrt(squaredNorm(query));
  const scores = new Float64Array(V.length / dim);
  for (let i = 0; i < scores.length; i++) {
    let product = 0, square = 0;
    for (let a = 0; a < dim; a++) {
      product += V[i * dim + a] * query[a];
      square += V[i * dim + a] ** 2;
    }
    const known = i !== column && square > 0 && own > 0;
    scores[i] = !known ? -Infinity : cosine ? product / (own * Math.sqrt(square)) : product;
  }
  return scores;
}

function scoreColikes(likes, column, cosine) {
  const scores = countColikes(likes, column);
  if (cosine) scores.forEach((both, i) => (scores[i] = both / Math.sqrt(likes.n[i] * likes.n[column])));
  scores[column] = -Infinity;
  return scores;
}

// The columns of the ten highest scores. Scores that agree to nine digits of the largest are tied:
// more likes go first, then the lower movieId.
function pickTen(scores, likes) {
  const finite = scores.filter(Number.isFinite);
  const largest = finite.reduce((most, score) => Math.max(most, Math.abs(score)), 0) || 1;
  const rounded = scores.map(score => Math.round((score / largest) * 1e9));
  const columns = [...scores.keys()].filter(i => scores[i] > -Infinity);
  return columns
    .sort((i, j) => rounded[j] - rounded[i] || likes.n[j] - likes.n[i] || i - j)
    .slice(0, 10);
}

// --- in a worker ---------------------------------------------------------------------------------

// Trains in slices, between which it listens: {ratings}, then {begin}, {steps}, {film}, in any order.
function serve(scope) {
  let ratings, likes, run, id, film, every, due = 0, sent = 0, timer = 0;

  const advance = () => {
    const began = performance.now(), first = run.losses.length;
    while (due > 0 && !run.diverged && performance.now() - began < every) {
      run.step();
      due = run.losses.length > MOST_STEPS ? 0 : due - 1;
    }
    const seconds = (performance.now() - began) / 1000;
    if (run.diverged) due = 0;
    const column = likes.columnOf.get(film) ?? -1, known = column >= 0 && !run.diverged;
    const scores = known ? scoreVectors(run.V, run.dim, column, true) : [];
    const ten = known ? pickTen(scores, likes) : [];
    scope.postMessage({
      losses: run.losses.slice(sent), steps: run.losses.length - 1, diverged: run.diverged,
      ten: ten.map(i => likes.movies[i]), cosines: ten.map(i => scores[i]), going: due > 0,
      speed: (run.losses.length - first) / seconds, id,
    });
    sent = run.losses.length;
    timer = due > 0 ? setTimeout(advance) : 0;
  };

  scope.onmessage = ({ data }) => {
    clearTimeout(timer);
    ratings = data.ratings ?? ratings;
    film = data.film ?? film;
    every = data.every ?? every;
    due = data.steps ?? due;
    if (data.begin) {
      const threshold = data.begin.threshold;
      if (likes?.threshold !== threshold) likes = buildLikes(ratings, threshold);
      run = beginRun(likes, data.begin);
      id = data.begin.id;
      sent = 0;
    }
    if (run) advance();
  };
}

if (typeof WorkerGlobalScope !== "undefined") serve(self);
