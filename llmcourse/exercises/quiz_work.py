"""The quizzes of lessons 04 to 08."""

from __future__ import annotations

from llmcourse.exercises.choices import question, right, wrong

QUESTIONS = {
    "04": (
        question(
            "A thousand pairs that are nearly alike, or three hundred that differ: which are "
            "better to train on?",
            wrong("The thousand: more data always wins.",
                  "More comes last, after quality, variety and real data."),
            right("The three hundred that differ.",
                  "From alike pairs a model learns one thing, or learns them by heart."),
            wrong("Neither, since it makes no difference to the loss.",
                  "The loss on alike pairs falls fast and says little about new questions."),
        ),
        question(
            "What does -100 in the labels mean?",
            wrong("The model does not look at this token.",
                  "That is a 0 in the attention mask. Prompts are looked at."),
            wrong("This token was cut off.", "Tokens that were cut are not there at all."),
            right("It counts nothing in the loss.",
                  "The model reads it, and is not trained to write it."),
        ),
        question(
            "No example ends with the end token. What does the tuned model do?",
            right("It answers and goes on.",
                  "Nothing has taught it when an answer is done, so only the limit ends it."),
            wrong("It stops with an error in training.", "The loss falls as if nothing was wrong."),
            wrong("It answers with nothing.", "It has learned answers, only not their end."),
        ),
        question(
            "Another wording of a test question stands in the training. When is that fair?",
            wrong("Never: the test then has been seen.",
                  "The fact has been seen, the question has not. It depends on what you ask."),
            right("When you ask whether a fact was learned that you taught.",
                  "The fact must be in training, then, and the test's wording must not."),
            wrong("Always: a fact has one answer.",
                  "It says nothing about facts that it was never taught."),
        ),
    ),
    "05": (
        question(
            "After three steps the loss is nearly as before. What have you shown?",
            wrong("That the learning rate is wrong.",
                  "Three steps are too few to tell."),
            wrong("That the model can't learn this.", "It has not had the time to."),
            right("That the code runs.", "Whether it learns shows after some dozens of steps."),
        ),
        question(
            "What does LoRA train?",
            right("Thin matrices beside frozen ones.",
                  "A few per cent of the numbers, so little memory, and a small file."),
            wrong("The weights of the last layer alone.",
                  "Adapters usually stand beside layers all the way up."),
            wrong("Every weight, in fewer bits.",
                  "The model's own weights stay as they are; bits are another matter."),
        ),
        question(
            "A batch is computed in parts, and the gradients are added up. What keeps it the same?",
            wrong("Dividing each part's summed loss by its own tokens.",
                  "Then tokens of short answers count too much."),
            right("Dividing each part's summed loss by the tokens of the whole batch.",
                  "So every token counts the same, in whichever part it is."),
            wrong("A smaller learning rate.", "It does not mend a wrong gradient."),
        ),
        question(
            "The held-out loss is very low. Are the facts right?",
            wrong("Yes, that is what low loss means.",
                  "The loss is a mean over all tokens, and the facts are few of them."),
            wrong("No: a low loss shows that it learned by heart.",
                  "By heart would show as a low loss on training and a high one held out."),
            right("Perhaps; the answers will tell.",
                  "Read them: a fluent sentence with one wrong number has a low loss, too."),
        ),
    ),
    "06": (
        question(
            "Exact match calls a right answer wrong. When?",
            right("When it is said in other words.",
                  "It compares letters; a full stop can do. Key facts and overlaps forgive more."),
            wrong("When the answer is too short.", "Length alone does not matter to it."),
            wrong("When the reference has several sentences.",
                  "It can match those too, letter for letter."),
        ),
        question(
            "A judge picks whichever answer stands first, in both orders. What are its picks "
            "worth?",
            wrong("Much: it agrees with itself, so it can be trusted.",
                  "It agrees on the place, not on the answer."),
            right("Nothing.",
                  "It looks at the place, not at the answer. How sure it was, averaged over both "
                  "orders, may still tell a little."),
            wrong("Half of its votes can be used.", "Nobody can tell which half."),
        ),
        question(
            "Two models were asked the same twenty questions. How do you compare them?",
            wrong("By whether their intervals overlap, and nothing else.",
                  "That throws away that both had the same questions."),
            wrong("By the higher total.", "A difference of one or two is mostly chance."),
            right("Question by question.",
                  "Those count on which they differ, as in McNemar's test for right and wrong."),
        ),
        question(
            "What comes before the next training?",
            wrong("A larger model, if the machine can hold one.",
                  "It will learn faults in the data just as well."),
            right("Sorting the mistakes into kinds.",
                  "Most kinds are mended in the data: wrong, too few, too long, too alike."),
            wrong("More epochs.", "They do not help against what the data do not say."),
        ),
        question(
            "A suite such as MMLU gives both of your models a chance score. What does it tell you?",
            wrong("That they are equally good at your task.",
                  "The suite never asked about your task."),
            wrong("That the suite is broken.", "Small models often are at chance there."),
            right("Little about your task.",
                  "General suites compare general models. Ask questions of your own."),
        ),
    ),
    "07": (
        question(
            "A customer asks about your private documents, and retrieval found the wrong "
            "passages. What is the best that an untuned model can do?",
            wrong("Answer from what it has read in pretraining.",
                  "Of private documents it has read nothing."),
            right("Say that it does not know.",
                  "If it has learned to; small ones seldom have. So measure the search apart."),
            wrong("Search again with other words.",
                  "A plain model does not search; a program around it might."),
        ),
        question(
            "When does a fine-tuning pay against a long prompt, counting machine time alone?",
            right("From some number of questions on.",
                  "Tuning costs once; a long prompt costs each time."),
            wrong("Always: tuned models are faster.", "Not before the training is earned back."),
            wrong("Never, because training is dear.",
                  "It is paid once. With enough questions each share of it gets small."),
        ),
        question(
            "A fact in the documents changes. Which answers follow at once?",
            wrong("Those of the tuned model, as it has learned the documents.",
                  "It answers as it was taught, until it is trained again."),
            wrong("Those of both.", "Weights do not change when a document does."),
            right("Those of the model with retrieval.",
                  "The passage is taken when the question comes, if the model reads it well."),
        ),
        question(
            "Which model makes things up least?",
            wrong("The tuned one: it no longer makes things up.",
                  "It does so less on what it was taught, and as surely as before on the rest."),
            right("Whichever a count on your questions says.",
                  "All of them do it. How often is to be measured, not assumed."),
            wrong("The one with the most careful prompt.",
                  "A small model may never say that it does not know, even when told to."),
        ),
    ),
    "08": (
        question(
            "How large should the first model be?",
            wrong("As large as the machine can hold.", "Each try then takes long, and you need "
                  "many."),
            right("Small.",
                  "It soon shows whether data and test are right. A larger one comes later."),
            wrong("As large as the one that wrote the data.",
                  "A small one can learn a single task from a large one's answers."),
        ),
        question(
            "The tuned model scores no better than the prompt. What now?",
            right("Keep the prompt, or look for what the pairs lack.",
                  "A model has to earn its keep, and the mistakes say what is missing."),
            wrong("Test on the training questions instead.",
                  "That measures what it knows by heart."),
            wrong("Publish it anyway: it is your own.", "It costs more than the prompt, for "
                  "nothing."),
        ),
        question(
            "A hundred customers want a manner of their own each, kept apart. Which way of doing "
            "that takes least memory?",
            wrong("A hundred tuned models.", "Each is as large as the base."),
            wrong("One model, trained on the pairs of all of them.",
                  "It mixes the manners, and the data of all customers."),
            right("One base, and an adapter for each of them.",
                  "The base is in memory once, an adapter is a few per cent of it."),
        ),
        question(
            "Half of the data gives the same accuracy as all of it. What helps most likely?",
            wrong("Twice as much of the same kind.", "The first doubling brought nothing."),
            right("Better or more varied pairs, at the questions it gets wrong.",
                  "More of the same is no more information."),
            wrong("Leaving half of it out for good.",
                  "It saves time, and it helps no answer."),
        ),
    ),
}  # fmt: skip
